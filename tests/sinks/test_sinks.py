"""What holds for every sink: a failure costs a warning, a resumed run shows each number once."""

from __future__ import annotations

import csv
from collections.abc import Mapping

import numpy as np
import pytest
from event_files import scalars
from harness import FAST, TINY, run_here
from sample_events import EVENTS

from ttt.config.extras import install
from ttt.figures.heat import heat, pixels
from ttt.results.results import Results
from ttt.sinks.base import Guarded, Past, RunInfo
from ttt.sinks.csv import CsvSink
from ttt.sinks.tensorboard import TensorboardSink

TRACKED = tuple(o for o in TINY if not o.startswith("logger"))


class Broken:
    name = "broken"

    def __init__(self) -> None:
        self.calls = 0

    def start(self, run: RunInfo, *, past: Past) -> None:
        self.calls += 1
        raise OSError("no server\nsecond line")

    def __call__(self, event: object) -> None:
        raise AssertionError("a sink that failed is not called again")

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        raise AssertionError("a sink that failed is not called again")


def test_a_failing_sink_is_one_warning(caplog):
    broken = Broken()
    guarded = Guarded(broken)
    assert guarded.finish(None, numbers={}, exit_code=0) is None
    guarded.start(None, past=lambda: EVENTS)
    guarded(EVENTS[0])
    assert guarded.finish(None, numbers={}, exit_code=0) is None
    assert broken.calls == 1
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "logger=broken" in warning
    assert warning.endswith("no server")


@pytest.mark.parametrize(("name", "sink"), [("csv", CsvSink), ("tensorboard", TensorboardSink)])
def test_a_resumed_run_shows_every_number_once(name, sink, tmp_path):
    """The run stops after step 9 and its checkpoint is at step 4: five steps come twice."""
    config = {"seed": 0, "task": {"name": "t", "sizes": [1, 2]}}
    run = RunInfo("1234", "t", "g", "n", ("tag",), config, tmp_path)
    first = Guarded(sink(name=name))
    first.start(run, past=list)
    for event in EVENTS[:10]:
        first(event)
    # A killed process closes nothing, but the writer's thread would go on in this process.
    assert first.finish(None, numbers={}, exit_code=1) is not None
    second = Guarded(sink(name=name))
    second.start(run, past=lambda: EVENTS[:5])
    for event in EVENTS[5:]:
        second(event)
    assert second.finish(None, numbers={}, exit_code=1) is not None
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
