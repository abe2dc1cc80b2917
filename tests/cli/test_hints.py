"""What a command prints as the next thing to type works as it is printed."""

from __future__ import annotations

import re
import shlex

import pytest
from assembling import without
from commands import typed
from comparisons import refusal
from fake_runs import make_run
from harness import FAST, TINY, run_here
from sweeping import SMALLEST

from ttt.cli import compare, report
from ttt.cli.runs import help as run_help


def type_line(line, folder):
    """Type a printed command in `folder`."""
    command, *words = shlex.split(line)
    if command == "ttt-run":
        return run_here(words, folder)
    return typed({"ttt-compare": compare.main, "ttt-report": report.main}[command], command, *words, cwd=folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep over two streams, and what it printed."""
    folder = tmp_path_factory.mktemp("swept")
    words = ["-m", *without(SMALLEST, "task.seq_len"), "adapter=none", "task.seq_len=36,40"]
    outcome = run_here(words, folder)
    assert outcome.code == 0, outcome.err
    return folder, outcome.out


def test_a_sweep_says_how_to_compare_its_runs(swept):
    folder, out = swept
    (line,) = re.findall(r"compare: (ttt-compare .*)", out)
    shown = type_line(line, folder)
    assert shown.code == 0, shown.err
    assert shown.out.count("one group") == 2
    # Each of the tables says how to have it alone.
    for words in re.findall(r"\((--where .*)\)", shown.out):
        alone = type_line(f"{line} {words}", folder)
        assert (alone.code, alone.out.count("one group")) == (0, 1)


def test_the_folder_of_a_sweep_stands_for_its_runs(swept):
    folder, out = swept
    (sweep,) = re.findall(r"their output is in (\S+)", out)
    assert type_line(f"ttt-compare {sweep}", folder).code == 0
    page = type_line(f"ttt-report {sweep} -o page.html", folder)
    assert page.code == 0, page.err
    assert "2 runs in 2 groups, on 2 streams" in (folder / "page.html").read_text()


def examples():
    """The commands in the help of ttt-run that start no long work."""
    lines = re.findall(r"^  (ttt-run .*?)(?:  |$)", run_help.HEAD + run_help.TAIL, re.MULTILINE)
    return [line for line in lines if not re.search(r"--config-dir|--study| -m adapter| RUN|ttt-run clean", line)]


@pytest.mark.parametrize("line", examples())
def test_the_examples_of_the_help_are_commands(line, tmp_path):
    outcome = type_line(line if "--" in line else f"{line} --cfg job", tmp_path)
    assert outcome.code == 0, outcome.err
    assert outcome.out


@pytest.mark.parametrize(
    ("words", "hint", "then"),
    [
        ([*TINY, *FAST, "trainer.devices=2"], "type (trainer=ddp) too", "{words} {hint}"),
        (["model=mlp", "adapter=none", "base=none"], "this works: ttt-run (.*)", "{hint}"),
        (["model=mlp", "source=digits", "adapter=mlp_fast", "base=none"], "use (adapter=none)", "{words} {hint}"),
        (["source=digits", "adapter=none"], "use (base=none)", "{words} {hint}"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_refusal_says_to_type_is_not_refused(words, hint, then, tmp_path):
    refused = run_here([*words, "--preview"], tmp_path)
    assert refused.code == 2, refused
    (better,) = re.findall(hint, refused.err)
    line = then.format(words=shlex.join(words), hint=better)
    outcome = run_here([*shlex.split(line), "--preview"], tmp_path)
    assert outcome.code == 0, outcome.err


def test_streams_that_cannot_share_a_picture_say_how_to_pick_one(tmp_path):
    for number, length in enumerate((64, 128)):
        make_run(tmp_path, overrides=[f"task.seq_len={length}"], tasks=2, stream=str(number), journal=False)
    plot = f"ttt-compare {tmp_path} --curve fast/loss/avg_final --plot {tmp_path / 'curve.svg'}"
    message = refusal(*shlex.split(plot)[1:])
    pick = message.strip().rpartition("to pick one: ")[2]
    assert type_line(f"{plot} {pick}", tmp_path).code == 0


def test_a_page_says_how_it_is_made_again(tmp_path):
    for rate in (0.1, 0.2):
        make_run(tmp_path, overrides=[f"optimizer.lr={rate}"], tasks=2, journal=False)
    line = f"ttt-report {tmp_path} --where optimizer.lr=0.1,0.2 -o page.html"
    assert type_line(line, tmp_path).code == 0
    text = (tmp_path / "page.html").read_text()
    (again,) = re.findall(r"<code>(ttt-report .*?)</code>", text)
    assert type_line(again, tmp_path).code == 0
    assert (tmp_path / "page.html").read_text().partition("<footer>")[0] == text.partition("<footer>")[0]
