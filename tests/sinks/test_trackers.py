"""What a run leaves with each tracker: CSV and event files, and a folder that W&B can sync."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
from event_files import scalars
from harness import FAST, TINY, only_run, run_apart, run_here

from ttt.results.events import from_record
from ttt.sinks.numbers import FAMILIES, axis_values, event_numbers
from ttt.storage.journal import read

# These share a base, which the first of them trains.
pytestmark = pytest.mark.xdist_group("sinks")

TRACKED = tuple(o for o in TINY if not o.startswith("logger"))


def results_of(run):
    return json.loads((run / "results.json").read_text())


def table(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


def test_csv_holds_every_number_of_the_results(tmp_path):
    assert run_here([*TRACKED, *FAST, "logger=csv", "eval.anytime=2"], tmp_path).code == 0
    run = only_run(tmp_path)
    points, r = results_of(run)["anytime"], results_of(run)["rows"]
    inside = [
        points["values"][mode][quantity][i][points["columns"][i].index(task)]
        for i, columns in enumerate(points["columns"])
        for mode, quantities in points["values"].items()
        for quantity in quantities
        for task in columns
    ]
    assert inside
    assert [float(row["value"]) for row in table(run / "csv" / "anytime.csv")] == inside
    evaluations = table(run / "csv" / "evaluations.csv")
    assert len(evaluations) == 4 * 3 * 6 * 3
    for row in evaluations:
        value = r[int(row["row"])]["scores"][row["mode"]][row["quantity"]][int(row["task"]) - 1]
        assert float(row["value"]) == value
    assert table(run / "csv" / "train.csv")[-1]["step"] == "9"


def test_tensorboard_shows_every_number_on_its_axis(tmp_path):
    # As a process: what TensorBoard writes to the screen past Python would show here.
    outcome = run_apart([*TRACKED, *FAST, "logger=tensorboard"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    run = only_run(tmp_path)
    assert "TensorBoard: tensorboard --logdir" in outcome.out
    points = scalars(run / "tensorboard")
    for event in map(from_record, read(run / "metrics.jsonl")):
        at = axis_values(event)
        for name, value in event_numbers(event).items():
            place = at[FAMILIES[name.split("/")[0]]]
            # Event files hold fp32.
            assert (place, pytest.approx(value, rel=1e-6)) in points[name]
        assert (at["axis/step"], pytest.approx(at["axis/tokens"])) in points["axis/tokens"]
    for name, value in results_of(run)["metrics"].items():
        if value is not None:
            assert points[name] == [(0, pytest.approx(value, rel=1e-6))]
    assert points["cost/seconds"][0][1] > 0
    files = b"".join(file.read_bytes() for file in (run / "tensorboard").iterdir())
    assert b"R/carried/loss" in files
    assert b"adapter.chunk" in files


def test_wandb_offline_holds_the_run_and_says_how_to_sync(tmp_path):
    """A run as a user types it, without a login."""
    outcome = run_apart([*TRACKED, *FAST, "logger=wandb"], tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    path = outcome.out.split("W&B: offline; to upload: wandb sync ")[1].split()[0]
    assert path.rstrip("/").split("/")[-1].startswith("offline-run-")
    run = only_run(tmp_path)
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for expected in (
        run.name.split("-")[-1],
        "split-sequence/recall/mlp_fast-naive-adamw",
        "axis/tokens",
        "axis/step",
        "train/loss",
        "ttt",
    ):
        assert expected in text
    metrics = results_of(run)["metrics"]
    for name in ("fast/loss/avg_final", "slow/loss/forgetting_max_seen", "fast_gain/loss/avg_final"):
        assert name in text
        assert str(metrics[name])[:8] in text
    assert list(run.glob("wandb/offline-run-*/files/media/images/R/fast/*.png"))
    assert list(run.glob("wandb/offline-run-*/files/media/table/R/fast/*.json"))
