"""ttt-stream as typed: what it prints and keeps, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import signal
import time

import commands
import pytest
from commands import assert_refused
from forked import Forked
from harness import Outcome, only_run, run_here

from ttt.cli import stream

TINY = ("task=split-sequence", "task.num_tasks=2", "task.steps_per_task=2", "task.seq_len=64", "task.batch_size=4",
        "base.steps=2", "model.layers=1", "model.width=16", "model.heads=2", "model.mlp_width=32", "model.window=8",
        "logger=none", "report=false", "trainer.threads=1")  # fmt: skip
BLOCK = ("--block", 64, "--window", 2)


def typed(*words, cwd=None) -> Outcome:
    return commands.typed(stream.main, "ttt-stream", *words, cwd=cwd)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folders = {}
    for adapter in ("mlp_fast", "delta_fast"):
        folder = tmp_path_factory.mktemp(adapter)
        outcome = run_here([*TINY, f"adapter={adapter}", "adapter.reset=task"], folder)
        assert outcome.code == 0, outcome.err
        folders[adapter] = only_run(folder)
    return folders


@pytest.fixture(scope="module")
def run(runs):
    return runs["mlp_fast"]


@pytest.fixture
def texts(tmp_path):
    for i, name in enumerate(("a.txt", "b.txt", "c.txt")):
        (tmp_path / name).write_bytes(bytes((7 * i + k * k) % 251 for k in range(1000 + 100 * i)))
    return tmp_path


def events_of(outcome):
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_one_text_over_time(run, texts):
    events = events_of(typed(run, texts / "a.txt", *BLOCK, "--json"))
    assert [event["event"] for event in events] == ["window"] * 8 + ["end"]
    assert events[-1]["bytes"] == events[-1]["tokens"] == 1000
    assert events[-1]["bits"] != events[-1]["bits_without_writes"]
    shown = typed(run, texts / "a.txt", *BLOCK)
    assert f"{events[-1]['bits']:.3f}" in shown.out
    assert "tokens/s" in shown.err


def test_files_are_one_text_in_order(run, texts):
    (texts / "both.txt").write_bytes((texts / "a.txt").read_bytes() + (texts / "b.txt").read_bytes())
    bits = [
        events_of(typed(run, *(texts / name for name in names), "--json"))[-1]["bits"]
        for names in (("a.txt", "b.txt"), ("both.txt",))
    ]
    assert bits[0] == bits[1]


def test_files_side_by_side_are_as_each_alone(run, texts):
    names = ["a.txt", "b.txt", "c.txt"]
    together = typed(run, *names, "--each", "--lanes", 2, "--memory", 1, *BLOCK, "--json", cwd=texts)
    ends = {event["session"]: event["bits"] for event in events_of(together) if event["event"] == "end"}
    for name in names:
        alone = events_of(typed(run, name, *BLOCK, "--json", cwd=texts))[-1]["bits"]
        assert ends[name] == pytest.approx(alone, abs=1e-5)


def test_records_of_sessions(run, texts):
    text = (texts / "a.txt").read_bytes().decode("latin-1")
    lines = [{"session": "ab"[i % 2], "text": text[i : i + 50]} for i in range(0, 900, 50)]
    (texts / "talk.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = (run, texts / "talk.jsonl", "--sessions", "--state", texts / "talk", *BLOCK)
    events = events_of(typed(*words, "--json"))
    assert {event["session"] for event in events} == {"a"}
    again = events_of(typed(*words, "--json"))
    assert again == [event for event in events if event["event"] == "end"]
    unknown = typed(*words, "--say", 5, "--session", "aa")
    assert unknown.code == 2
    assert "'aa': unknown; did you mean a?" in unknown.err


def test_a_page_and_numbers(run, texts):
    assert typed(run, texts / "a.txt", *BLOCK, "--out", texts / "out").code == 0
    numbers = json.loads((texts / "out" / "stream.json").read_text())
    (session,) = numbers["sessions"].values()
    assert session["bytes"] == 1000
    assert len(session["points"]) == 8
    assert "<svg" in (texts / "out" / "report.html").read_text()


def test_it_writes_on_and_goes_on_from_there(run, texts):
    words = (run, texts / "a.txt", "--state", texts / "a.state", "--json")
    said = events_of(typed(*words, "--say", 20, "--temperature", 1, "--top-k", 3))[-1]
    assert said["event"] == "said"
    end = events_of(typed(*words))[-1]
    assert (end["tokens"], end["bytes"]) == (1020, 1000)


def test_kill_9_loses_at_most_one_block(run, texts):
    """The events of a killed command and of those that go on are byte for byte those of one."""
    (texts / "long.txt").write_bytes((texts / "c.txt").read_bytes() * 5)
    assert typed(run, "long.txt", *BLOCK, "--out", "whole", cwd=texts).code == 0
    words = [*map(str, (run, "long.txt", *BLOCK, "--state", "s.state", "--out", "out"))]
    process, file = Forked(stream.main, ["ttt-stream", *words], texts), texts / "out" / "events.jsonl"
    while process.poll() is None and (not file.is_file() or file.stat().st_size < 500):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert typed(*words, cwd=texts).code == 0
    assert (texts / "out" / "events.jsonl").read_bytes() == (texts / "whole" / "events.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["run folder"]),
        (["RUN", "aa.txt"], ["aa.txt", "did you mean a.txt"]),
        (["RUN", "."], ["folder"]),
        (["a.txt", "a.txt"], ["a.txt", "a run is a folder"]),
        (["RUN", "a.txt", "--blok", "3"], ["--blok", "--block"]),
        (["RUN", "a.txt", "--block", "0"], ["--block 0", "at least 1"]),
        (["RUN", "a.txt", "--decay", "1.5"], ["--decay 1.5", "between 0 and 1"]),
        (["RUN", "a.txt", "--max-norm", "0"], ["--max-norm 0"]),
        (["RUN", "a.txt", "--reset", "soon"], ["--reset soon", "never"]),
        (["RUN", "a.txt", "--start", "carry"], ["--start carry", "carried"]),
        (["RUN", "a.txt", "--context", "65"], ["--context 65", "task.seq_len=64"]),
        (["RUN", "a.txt", "--each", "--sessions"], ["--each"]),
        (["RUN", "a.txt", "a.txt", "--each"], ["a.txt is there twice"]),
        (["RUN", "--each"], ["--each", "standard input"]),
        (["RUN", "a.txt", "--append"], ["--append", "--state"]),
        (["RUN", "a.txt", "--append", "--state", "x"], ["--state x", "does not exist"]),
        (["RUN", "a.txt", "--state", "."], ["--state .", "folder"]),
        (["RUN", "a.txt", "--state", "no/x"], ["no folder no"]),
        (["RUN", "a.txt", "--top-k", "3"], ["--top-k 3", "--say"]),
        (["RUN", "a.txt", "--top-k", "3", "--say", "3"], ["--top-k", "temperature"]),
        (["RUN", "a.txt", "--stop", "ab", "--say", "3"], ["--stop", "2 tokens"]),
        (["RUN", "a.txt", "--each", "--say", "3"], ["--session NAME"]),
        (["RUN", "a.txt", "--sessions"], ["a.txt: line 1"]),
        (["adapter=mlp_fst", "a.txt"], ["adapter=mlp_fst", "mlp_fast"]),
        (["RUN", "adapter=none", "a.txt"], ["adapter=none"]),
        (["adapter.write_at=document", "adapter.reset=never", "base=none", "a.txt"], ["adapter.write_at=document"]),
        (["model.window=null", "base=none", "a.txt"], ["model.window=null", "--context"]),
        (["source=recall", "base=none", "a.txt"], ["source=recall", "text"]),
    ],
)
def test_wrong_words_are_refused_in_one_line(run, texts, words, parts):
    outcome = typed(*(run if word == "RUN" else word for word in words), cwd=texts)
    assert_refused(outcome, *parts)


def test_the_state_of_another_run_is_refused_with_both_names(runs, texts):
    state = texts / "a.state"
    assert typed(runs["mlp_fast"], texts / "a.txt", "--state", state).code == 0
    outcome = typed(runs["delta_fast"], texts / "a.txt", "--state", state)
    assert_refused(outcome, state, runs["mlp_fast"], runs["delta_fast"])
    assert_refused(typed(runs["mlp_fast"], texts / "b.txt", "--state", state), "b.txt", "not the text")
    assert typed(runs["mlp_fast"], texts / "b.txt", "--state", state, "--append").code == 0
