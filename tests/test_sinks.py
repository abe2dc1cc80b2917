"""Sinks: the real W&B client offline, CSV, and one that fails."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
from harness import FAST, TINY, only_run, run_apart, run_here

from ttt.figures.heat import heat, pixels
from ttt.results import Results
from ttt.sinks.base import Guarded, RunInfo

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
    assert run_here([*TRACKED, *FAST, "logger=csv"], tmp_path).code == 0
    run = only_run(tmp_path)
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

    def finish(self, results: Results, *, exit_code: int) -> str | None:
        raise AssertionError("a sink that failed is not called again")


def test_a_failing_sink_is_one_warning(caplog):
    broken = Broken()
    guarded = Guarded(broken)
    assert guarded.finish(None, exit_code=0) is None
    guarded.start(None)
    guarded(None)
    assert guarded.finish(None, exit_code=0) is None
    assert broken.calls == 1
    assert [record.getMessage() for record in caplog.records] == [
        "logger=broken failed and is off from here on: no server"
    ]


def test_a_server_that_is_not_there_does_not_stop_a_run(tmp_path, monkeypatch):
    """Online by choice, with a key, but nobody listens: measured all the same, offline."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    outcome = run_apart([*TRACKED, *FAST, "logger=wandb"], tmp_path)
    assert outcome.code == 0
    assert json.loads((only_run(tmp_path) / "status.json").read_text())["status"] == "done"
    assert "Traceback" not in outcome.err


def test_the_picture_has_a_colour_for_every_value():
    import numpy as np

    found = pixels(heat(np.arange(12.0).reshape(4, 3), title="R"))
    assert found.shape[2] == 4
    assert len(np.unique(found.reshape(-1, 4), axis=0)) > 12
