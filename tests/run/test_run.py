"""A whole run by the command: its files, its numbers, its end."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from damages import damage
from harness import FAST, TINY, only_run, run_here

from ttt.learner import Learner
from ttt.results.events import from_record
from ttt.run import execute, references
from ttt.storage.journal import read
from ttt.storage.run_folder import RunFolder
from ttt.strategies.naive import Naive

FILES = {"config.yaml", "environment.json", "status.json", "metrics.jsonl", "results.json", "samples.json",
         "checkpoints", "report.html", "plots"}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Where a run with its page is done, and what the command showed."""
    where = tmp_path_factory.mktemp("finished")
    outcome = run_here([*TINY, *FAST, "report=true"], where)
    assert outcome.code == 0, outcome.err
    return where, outcome


def test_a_run_writes_what_the_readme_of_outputs_says(finished):
    folder = only_run(finished[0])
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / "status.json").read_text())["status"] == "done"
    results = json.loads((folder / "results.json").read_text())
    assert [row["columns"] for row in results["rows"]] == [[0, 1, 2]] * 4
    assert all(x is not None for row in results["rows"] for x in row["scores"]["fast"]["accuracy"])
    assert "fast_gain/loss/avg_final" in results["metrics"]
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["row"] for e in events if e["event"] == "evaluated"] == [0, 1, 2, 3]


def test_a_run_ends_with_a_page_and_samples(finished):
    where, outcome = finished
    folder = only_run(where)
    page = (folder / "report.html").read_text()
    assert "report   " in outcome.out
    assert json.loads((folder / "samples.json").read_text())[0]["task"] in page
    assert list((folder / "plots").glob("*.svg"))


def test_a_run_that_is_done_is_not_run_again(finished):
    where, _ = finished
    before = {path: path.stat().st_mtime_ns for path in only_run(where).rglob("*")}
    # A page is no number: with and without it a run is the same one.
    for report in ("report=true", "report=false"):
        again = run_here([*TINY, *FAST, report], where)
        assert again.code == 0
        assert again.out.startswith("this run is already done")
        assert "forgetting_max_seen" in again.out
    assert before == {path: path.stat().st_mtime_ns for path in only_run(where).rglob("*")}


DAMAGED = [*((name, "hole") for name in ("status.json", "results.json", "config.yaml", "environment.json")),
           ("status.json", "list"), ("results.json", "number"), ("config.yaml", "object"),
           ("environment.json", "empty"),
           ("metrics.jsonl", "hole"), ("metrics.jsonl", "no UTF-8"), ("metrics.jsonl", "empty")]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), DAMAGED)
def test_a_damaged_file_is_named_and_written_anew(name, kind, finished, tmp_path):
    shutil.copytree(finished[0] / "outputs", tmp_path / "outputs")
    run = only_run(tmp_path)
    before = (run / "results.json").read_bytes()
    damage(run / name, kind)
    if name == "metrics.jsonl":
        # A run that is done does not read it.
        (run / "status.json").unlink()
    outcome = run_here([*TINY, *FAST], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = [line for line in outcome.out.splitlines() if "damaged" in line or "missing" in line]
    assert str(run.relative_to(tmp_path) / name) in line
    assert (run / "results.json").read_bytes() == before
    assert not RunFolder(run).damages()
    assert all(map(from_record, read(run / "metrics.jsonl")))


def test_results_that_were_changed_are_refused_by_the_name_of_their_file(finished, tmp_path):
    shutil.copytree(finished[0] / "outputs", tmp_path / "outputs")
    file = only_run(tmp_path) / "results.json"
    file.write_text(file.read_text().replace("0.", "1.", 1))
    with pytest.raises(ValueError, match=re.escape(str(file))):
        references.values({"joint": only_run(tmp_path)})


def test_same_seed_same_results_other_seed_other_results(finished, tmp_path):
    contents = [(only_run(finished[0]) / "results.json").read_bytes()]
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert run_here([*TINY, *FAST, f"seed={seed}"], folder).code == 0
        contents.append((only_run(folder) / "results.json").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    job = [*TINY, "adapter=none", "optimizer=sgd", "optimizer.lr=1e30", "optimizer.clip=null", "trainer.report_every=1"]
    outcome = run_here(job, tmp_path)
    assert outcome.code == 76
    assert "world" in outcome.err
    assert json.loads((only_run(tmp_path) / "status.json").read_text())["status"] == "failed"


def test_an_unannounced_stream_never_resets_and_tells_no_strategy(tmp_path, monkeypatch):
    calls = []
    # What a run says of itself, it finds by asking its learner for the next task.
    monkeypatch.setattr(execute, "causal_line", lambda assembly, fabric: "")
    monkeypatch.setattr(Learner, "begin_task", lambda self: calls.append("begin"))
    monkeypatch.setattr(Naive, "end_task", lambda self, engine, task: calls.append("end"))
    assert run_here([*TINY, *FAST, "task=drift-sequence"], tmp_path).code == 0
    assert calls == []
    assert run_here([*TINY, *FAST], tmp_path).code == 0
    assert calls == ["begin", "end"] * 3


def test_a_strategy_that_cannot_serve_is_refused_before_a_base_is_trained(tmp_path):
    small = [*TINY, "adapter=none", "strategy=distill", "base.steps=100000", f"cache_dir={tmp_path / 'cache'}"]
    outcome = run_here(small, tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith("ttt-run: adapter=none: ")
    assert "strategy=distill" in outcome.err
    assert not (tmp_path / "cache" / "base").exists()
    assert not (tmp_path / "outputs").exists()
