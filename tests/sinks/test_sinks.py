"""Sinks: the real W&B client offline, CSV, and one that fails."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing

import pytest
from harness import FAST, TINY, only_run, run_apart, run_here

from ttt.evaluation.evaluate import QUANTITIES
from ttt.figures.heat import heat, pixels
from ttt.results.events import Evaluated, Trained
from ttt.results.results import Results
from ttt.sinks.base import Guarded, RunInfo
from ttt.sinks.csv import CsvSink
from ttt.sinks.numbers import FAMILIES, axes, numbers, past
from ttt.sinks.tensorboard import TensorboardSink
from ttt.storage.journal import Journal

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("sinks")

TRACKED = tuple(o for o in TINY if not o.startswith("logger"))


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A run as one types it, without a login."""
    folder = tmp_path_factory.mktemp("wandb")
    outcome = run_apart([*TRACKED, *FAST, "logger=wandb"], folder)
    assert outcome.code == 0, outcome.err
    return folder, outcome


def records(folder):
    (file,) = folder.glob("outputs/**/wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_wandb_offline_says_how_to_sync(offline):
    _, outcome = offline
    assert "W&B: offline; to upload: wandb sync " in outcome.out
    path = outcome.out.split("wandb sync ")[1].split()[0]
    assert path.rstrip("/").split("/")[-1].startswith("offline-run-")


def test_wandb_holds_who_the_run_is_its_axes_and_its_numbers(offline):
    folder, _ = offline
    run = only_run(folder)
    text = json.dumps(records(folder))
    assert run.name.split("-")[-1] in text
    for expected in ("split-sequence/recall/mlp_fast-naive-adamw", "axis/tokens", "axis/step", "train/loss", "ttt"):
        assert expected in text
    results = json.loads((run / "results.json").read_text())["metrics"]
    for name in ("fast/loss/avg_final", "slow/loss/forgetting_max_seen", "fast_gain/loss/avg_final"):
        assert name in text
        assert str(results[name])[:8] in text
    assert list(run.glob("wandb/offline-run-*/files/media/images/R/fast/*.png"))
    assert list(run.glob("wandb/offline-run-*/files/media/table/R/fast/*.json"))


def test_csv(tmp_path):
    assert run_here([*TRACKED, *FAST, "logger=csv", "eval.anytime=2"], tmp_path).code == 0
    run = only_run(tmp_path)
    with (run / "csv" / "anytime.csv").open() as file:
        inside = list(csv.DictReader(file))
    points = json.loads((run / "results.json").read_text())["anytime"]
    flat = [
        points["values"][mode][quantity][i][points["columns"][i].index(task)]
        for i, columns in enumerate(points["columns"])
        for mode, quantities in points["values"].items()
        for quantity in quantities
        for task in columns
    ]
    assert flat
    assert [float(row["value"]) for row in inside] == flat
    with (run / "csv" / "evaluations.csv").open() as file:
        rows = list(csv.DictReader(file))
    r = json.loads((run / "results.json").read_text())["rows"]
    assert len(rows) == 4 * 3 * 6 * 3
    for row in rows:
        value = r[int(row["row"])]["scores"][row["mode"]][row["quantity"]][int(row["task"]) - 1]
        assert float(row["value"]) == value
    with (run / "csv" / "train.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)][-1] == "9"


class Broken:
    name = "broken"

    def __init__(self) -> None:
        self.calls = 0

    def start(self, run: RunInfo) -> None:
        self.calls += 1
        raise OSError("no server\nsecond line")

    __call__ = start

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        raise AssertionError("a sink that failed is not called again")


def test_a_failing_sink_is_one_warning(caplog, tmp_path):
    broken = Broken()
    guarded = Guarded(broken)
    assert guarded.finish(None, numbers={}, exit_code=0) is None
    guarded.start(None, journal=tmp_path / "metrics.jsonl")
    guarded(None)
    assert guarded.finish(None, numbers={}, exit_code=0) is None
    assert broken.calls == 1
    assert [record.getMessage() for record in caplog.records] == [
        "logger=broken failed and is off from here on: no server"
    ]


def trained(step):
    return Trained(
        task=1, task_name="a", task_step=step, task_steps=9, step=step, tokens=32 * step, seconds=0.5 * step,
        tokens_per_second=64.0, loss=5.0 - step / 7,
    )  # fmt: skip


def evaluated(row, *, base):
    scores = {q: [1.5 + row, math.nan if q == "accuracy_late" else 2.5] for q in QUANTITIES}
    return Evaluated(
        row=row, columns=[0, 1], current=row - 1 if row else None, seen=list(range(row)), step=9 * row,
        tokens=288 * row, seconds=4.5 * row, tasks={"slow": scores, "fast": scores},
        base={"slow": scores, "fast": scores} if base else None, diagnostics={"norm": 0.25},
    )  # fmt: skip


EVENTS = [evaluated(0, base=True), *map(trained, range(1, 10)), evaluated(1, base=False)]


def write(path, events):
    with closing(Journal(path)) as journal:
        for event in events:
            journal(event)


def test_the_journal_gives_back_every_event(tmp_path):
    write(tmp_path / "metrics.jsonl", EVENTS)
    # repr: NaN equals nothing.
    assert repr(list(past(tmp_path / "metrics.jsonl"))) == repr(EVENTS)


def test_what_was_not_measured_is_not_shown():
    shown = numbers(EVENTS[-1])
    assert shown["eval/fast/accuracy/current"] == 2.5
    assert shown["eval/fast/accuracy/seen"] == 2.5
    assert "eval/fast/accuracy_late/current" in shown
    assert "eval/fast/loss/all" not in shown
    partly = numbers(EVENTS[0])
    assert partly["eval/fast/loss/all"] == 2.0
    assert "eval/fast/accuracy_late/all" not in partly
    assert all(math.isfinite(value) for value in (*shown.values(), *partly.values()))


def curves(folder):
    """name -> [(place, value)] as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {name: [(point.step, point.value) for point in found.Scalars(name)] for name in found.Tags()["scalars"]}


# What was killed is a thread here, not a process: its writer goes on, into a folder that is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("sink", [CsvSink(name="csv"), TensorboardSink(name="tensorboard")], ids=lambda s: s.name)
def test_a_resumed_run_shows_every_number_once(sink, tmp_path):
    """Killed after step 9, its checkpoint is that of step 4: five steps come twice."""
    run = RunInfo("1234", "t", "g", "n", ("tag",), {"seed": 0, "task": {"name": "t", "sizes": [1, 2]}}, tmp_path)
    journal = tmp_path / "metrics.jsonl"
    write(journal, [])
    first = Guarded(sink)
    first.start(run, journal=journal)
    for event in EVENTS[:10]:
        first(event)
    write(journal, EVENTS[:5])
    second = Guarded(sink)
    second.start(run, journal=journal)
    for event in EVENTS[5:]:
        second(event)
    assert second.finish(None, numbers={}, exit_code=1) is not None
    if sink.name == "csv":
        with (tmp_path / "csv" / "train.csv").open() as file:
            steps = [int(row["step"]) for row in csv.DictReader(file)]
    else:
        steps = [step for step, _ in curves(tmp_path / "tensorboard")["train/loss"]]
    assert steps == list(range(1, 10))


def test_tensorboard(tmp_path):
    outcome = run_apart([*TRACKED, *FAST, "logger=tensorboard"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    run = only_run(tmp_path)
    assert "TensorBoard: tensorboard --logdir" in outcome.out
    found = curves(run / "tensorboard")
    for event in past(run / "metrics.jsonl"):
        at = axes(event)
        for name, value in numbers(event).items():
            place = at[FAMILIES[name.split("/")[0]]]
            # Event files hold fp32.
            assert (place, pytest.approx(value, rel=1e-6)) in found[name]
        assert (at["axis/step"], pytest.approx(at["axis/tokens"])) in found["axis/tokens"]
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    for name, value in metrics.items():
        if value is not None:
            assert found[name] == [(0, pytest.approx(value, rel=1e-6))]
    assert found["cost/seconds"][0][1] > 0
    files = b"".join(file.read_bytes() for file in (run / "tensorboard").iterdir())
    assert b"R/carried/loss" in files
    assert b"adapter.chunk" in files


@pytest.mark.parametrize("logger", ["tensorboard", "trackio"])
def test_a_missing_package_is_one_line_and_leaves_nothing(logger, tmp_path, monkeypatch):
    monkeypatch.setattr("ttt.sinks.base.find_spec", lambda package: None)
    outcome = run_here([*TRACKED, *FAST, f"logger={logger}"], tmp_path)
    assert outcome.code == 2
    assert outcome.err == f'ttt-run: logger={logger}: {logger} is not installed: pip install "ttt[{logger}]"\n'
    assert not list(tmp_path.iterdir())


def test_the_picture_has_a_colour_for_every_value():
    import numpy as np

    found = pixels(heat(np.arange(12.0).reshape(4, 3), title="R"))
    assert found.shape[2] == 4
    assert len(np.unique(found.reshape(-1, 4), axis=0)) > 12
