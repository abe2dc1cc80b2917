"""`ttt-probe slow` as typed."""

from __future__ import annotations

import hashlib
import json

import commands
import pytest
from commands import assert_refused
from harness import FAST, SMALL, TINY, only_run, run_here

from ttt.cli import probe


def typed(*words):
    return commands.typed(probe.main, "ttt-probe", *words)


def content_of(folder) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    assert run_here([*TINY, *FAST, f"cache_dir={folder / 'cache'}"], folder).code == 0
    return only_run(folder)


def test_slow_as_typed(run, tmp_path):
    before = content_of(run)
    done = typed("slow", run, "--steps", 3, "--lr", 0.01, "--out", tmp_path)
    assert done.code == 0, done.err
    assert content_of(run) == before
    assert "drift of mode slow on the base" in done.out
    numbers = json.loads((tmp_path / "probe.json").read_text())
    assert numbers["settings"]["first"] == 3
    results = json.loads((run / "results.json").read_text())
    # Without a step both are what the run measured: the base in its first row, the end in its last.
    for row, curve in zip((0, -1), numbers["curves"].values(), strict=True):
        assert [point["step"] for point in curve] == [0, 1, 2, 3]
        for mode in ("slow", "fast"):
            assert curve[0][f"{mode}_each"] == pytest.approx(results["rows"][row]["scores"][mode]["loss"], rel=1e-4)
    assert (tmp_path / "probe.svg").is_file()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["slow"], "slow: "),
        (["slow", "RUN", "--steps", "0"], "--steps 0: "),
        (["slow", "RUN", "--lr", "-1"], "--lr -1.0: "),
        (["slow", "RUN", "--stepz", "3"], "--stepz: unknown; did you mean --steps?"),
        (["slow", "RUN", "--places", "3"], "--places 3: "),
        (["state", "RUN", "--steps", "3"], "--steps 3: "),
        (["slwo", "RUN"], "slwo: unknown; did you mean slow?"),
        (["slow", "base=none"], "slow takes one run folder"),
    ],
)
def test_a_mistake_is_one_line(run, words, part):
    assert_refused(typed(*(run if word == "RUN" else word for word in words)), part)


def test_a_run_without_fast_weights_is_refused(tmp_path):
    assert run_here([*SMALL, "base=none", "adapter=none"], tmp_path).code == 0
    assert_refused(typed("slow", only_run(tmp_path)), "no fast state")
