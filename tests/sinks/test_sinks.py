"""What holds for every sink: a resumed run shows each number once, what lacks is one line."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from event_files import scalars
from harness import FAST, TINY, run_here
from sample_events import EVENTS

from ttt.config.extras import install
from ttt.figures.heat import heat, pixels
from ttt.sinks.base import RunInfo
from ttt.sinks.csv import CsvSink
from ttt.sinks.tensorboard import TensorboardSink

TRACKED = tuple(o for o in TINY if not o.startswith("logger"))


@pytest.mark.parametrize(("name", "sink"), [("csv", CsvSink), ("tensorboard", TensorboardSink)])
def test_a_resumed_run_shows_every_number_once(name, sink, tmp_path):
    """The run stops after step 9 and its checkpoint is at step 4: five steps come twice."""
    run = RunInfo("1234", "t", "g", "n", ("tag",), {"seed": 0, "task": {"name": "t", "sizes": [1, 2]}}, tmp_path)
    for past, new in (([], EVENTS[:10]), (EVENTS[:5], EVENTS[5:])):
        shown = sink(name=name)
        shown.start(run, past=lambda past=past: past)
        for event in (*past, *new):
            shown(event)
        # A killed process closes nothing, but the writer's thread would go on in this process.
        assert shown.finish(None, numbers={}, exit_code=1) is not None
    if name == "csv":
        with (tmp_path / "csv" / "train.csv").open() as file:
            steps = [int(row["step"]) for row in csv.DictReader(file)]
    else:
        steps = [step for step, _ in scalars(tmp_path / "tensorboard")["train/loss"]]
    assert steps == list(range(1, 10))


@pytest.mark.parametrize("logger", ["tensorboard", "trackio", "mlflow"])
def test_a_missing_package_is_one_line_and_leaves_nothing(logger, tmp_path, monkeypatch):
    monkeypatch.setattr("ttt.sinks.base.find_spec", lambda package: None)
    outcome = run_here([*TRACKED, *FAST, f"logger={logger}"], tmp_path)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert f"logger={logger}" in line
    assert install(logger) in line
    assert not list(tmp_path.iterdir())


def test_an_unknown_mode_of_wandb_is_refused(tmp_path):
    outcome = run_here([*TRACKED, *FAST, "logger=wandb", "logger.mode=ofline"], tmp_path)
    assert outcome.code == 2
    assert "logger.mode=ofline" in outcome.err
    assert "did you mean offline?" in outcome.err
    assert not list(tmp_path.iterdir())


def test_the_picture_has_a_colour_for_every_value():
    picture = pixels(heat(np.arange(12.0).reshape(4, 3), title="R"))
    assert picture.shape[2] == 4
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 12
