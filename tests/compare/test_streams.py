"""Runs of several streams in one folder: a table for each, and how to pick one."""

from __future__ import annotations

import csv
import json
import shlex

import pandas as pd
import pytest
from comparisons import cells, compare, refusal
from fake_runs import make_run

from ttt.compare.runs import find_runs, read_run
from ttt.compare.streams import by_stream

METRIC = "fast/loss/avg_final"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two adapters and two seeds on three streams: two lengths of one source, and another task."""
    folder = tmp_path_factory.mktemp("mixed")
    streams = (["task.seq_len=64"], ["task.seq_len=128"], ["task=permuted-sequence", "source=recall"])
    for number, words in enumerate(streams):
        for adapter in ("none", "mlp_fast"):
            for seed in range(2):
                overrides = [f"adapter={adapter}", *words]
                make_run(folder, seed=seed, overrides=overrides, tasks=3, stream=str(number), journal=False)
    return folder


def runs_in(folder):
    return [read_run(run) for run in find_runs([str(folder)]).done]


def test_each_stream_has_a_table(mixed):
    streams = by_stream(runs_in(mixed))
    assert [len(stream.runs) for stream in streams] == [4, 4, 4]
    for stream in streams:
        assert len({run.results.fingerprints[0] for run in stream.runs}) == 2
    shown = compare(mixed, "--metrics", METRIC, "--baseline", "adapter.name=none")
    assert shown.code == 0
    assert shown.out.count("2 groups that differ in adapter.name;") == 3
    rows = cells(mixed, "--metrics", METRIC)
    assert {row["stream"] for row in rows} == {stream.name for stream in streams}
    assert {row["n"] for row in rows} == {2}
    assert compare(mixed, "--format", "latex").out.count(r"\label{tab:comparison-") == 3


def test_what_picks_a_stream_picks_it(mixed):
    streams = by_stream(runs_in(mixed))
    for stream in streams:
        words = shlex.split(stream.where)
        (picked,) = by_stream([read_run(run.folder) for run in stream.runs])
        shown = cells(mixed, "--metrics", METRIC, *words)
        assert "stream" not in shown[0]
        assert len(shown) == 2
        assert sorted(run.folder for run in picked.runs) == sorted(run.folder for run in stream.runs)
    message = refusal(mixed, "--curve", METRIC, "--plot", mixed / "x.svg")
    words = shlex.split(message.rpartition("to pick one: ")[2])
    assert compare(mixed, "--curve", METRIC, "--plot", mixed / "x.svg", *words).code == 0


def test_a_stream_that_cannot_be_shown_is_left_out_and_named(mixed):
    make_run(mixed / "rates", overrides=["task=drift-sequence", "optimizer.lr=0.5"], tasks=2, journal=False)
    make_run(mixed / "rates", overrides=["task=drift-sequence"], tasks=2, journal=False)
    shown = compare(mixed, "--frontier")
    assert shown.code == 0
    assert shown.err.count("left out") == 3
    assert "drift-sequence" not in shown.err


def test_streams_compared_with_each_other_share_a_table(tmp_path):
    for task in ("split-sequence", "permuted-sequence"):
        make_run(tmp_path, overrides=[f"task={task}"], tasks=3, stream=task, journal=False)
    rows = cells(tmp_path, "--metrics", METRIC, "--baseline", "task.name=split-sequence")
    assert [row["difference"] for row in rows] == [True, False]


def test_a_sweep_is_its_runs(tmp_path):
    sweep = tmp_path / "sweeps" / "20261130-120000-7"
    sweep.mkdir(parents=True)
    runs = [make_run(tmp_path, seed=seed, tasks=2, journal=False) for seed in range(4)]
    for number, run in enumerate(runs[:3], start=1):
        job = {"folder": str(run.relative_to(tmp_path.parent)), "status": "done"}
        (sweep / f"{number:04d}.json").write_text(json.dumps(job))
        (sweep / f"run-{number:04d}.json").write_text(json.dumps({"folder": "elsewhere"}))
    (sweep / "0004.json").write_text(json.dumps({"folder": None, "status": "failed"}))
    assert find_runs([str(sweep)]).done == sorted(runs[:3])
    assert find_runs([str(sweep.parent)]).done == sorted(runs[:3])
    assert [cell["n"] for cell in cells(sweep, "--metrics", METRIC)] == [3]


def test_long_data_has_a_row_for_each_run_and_metric(mixed, tmp_path):
    typed = ("--metrics", METRIC, "slow/loss/gained", "--where", "task.seq_len=64", "--format", "long")
    rows = list(csv.DictReader(compare(mixed, *typed).out.splitlines()))
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        assert float(row["value"]) == read_run(next(r for r in find_runs([row["folder"]]).done)).metric(row["metric"])
    assert compare(mixed, *typed, "--to", tmp_path / "runs.parquet").code == 0
    frame = pd.read_parquet(tmp_path / "runs.parquet")
    assert frame["value"].tolist() == [float(row["value"]) for row in rows]
    assert compare(mixed, "--to", tmp_path / "cells.csv").code == 0
    assert "stream" in (tmp_path / "cells.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--to", "table.docx"], ["--to table.docx", ".parquet"]),
        (["--to", "nowhere/x.csv"], ["--to nowhere/x.csv", "No such file"]),
        (["--caption", "x"], ["--caption", "--format latex"]),
        (["--format", "long", "--frontier"], ["--format long"]),
        (["--format", "latex", "--to", "x.parquet"], ["--format latex"]),
        (["--format", "ltex"], ["--format ltex", "did you mean latex?"]),
        (["--basline", "adapter.name=none"], ["--basline", "did you mean --baseline?"]),
        (["--metrics"], ["--metrics", "ttt-compare --help"]),
        (["--curve", METRIC, "--plot", "x.svg", "--log", "z"], ["--log z", "allowed: x, y"]),
        (["--wandb"], ["--wandb", "--where"]),
    ],
)
def test_wrong_words(typed, words, mixed):
    message = refusal(mixed, *typed)
    assert all(word in message for word in words), message
