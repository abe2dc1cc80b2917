"""When a run saves: short tasks share a checkpoint, and none of them changes a number."""

from __future__ import annotations

import math
from functools import partial

import pytest
import stopping
from harness import FAST, TINY, only_run, run_here
from interrupted import interrupted_run
from stopped_jobs import ADAM, NANO
from stopping import broken, unbroken
from strategy_jobs import make

from ttt.storage.checkpoint import in_order
from ttt.training import saving
from ttt.training.saving import Saving

# A rest after each of 2 x 3 steps and each of 4 rows but the last one.
JOB = (*NANO, *ADAM, "strategy=replay", "strategy.size=12", "task.steps_per_task=2")


@pytest.fixture
def clock(monkeypatch):
    """Set the clock that checkpoints go by."""
    seconds = [100.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: seconds[0])
    return partial(seconds.__setitem__, 0)


def test_each_limit_counts_from_the_last_checkpoint(clock):
    limits = Saving(every=8, minutes=10, task_seconds=5)
    limits.restart(0)

    def due(step):
        return limits.is_due(step), limits.is_due(step, inside_task=False)

    assert due(0) == (False, False)
    clock(104.9)
    assert due(7) == (False, False)
    assert due(8) == (True, True)
    clock(105.0)
    assert due(7) == (False, True)
    clock(700.0)
    assert due(7) == (True, True)
    limits.restart(7)
    assert due(8) == (False, False)
    assert due(15) == (True, True)


def test_a_run_that_is_stopped_between_short_tasks_saves_there_and_ends_alike(tmp_path, monkeypatch):
    whole, rests = unbroken(lambda: make(*JOB), tmp_path / "whole")
    monkeypatch.setattr(stopping, "Saving", partial(Saving, task_seconds=math.inf))
    for at in range(1, rests):
        assert broken(lambda: make(*JOB), tmp_path / f"{at}", stops=(at,)) == whole
    assert "task-0001" in [path.name for path in in_order(tmp_path / "4")]


def test_what_a_crash_takes_of_short_tasks_is_learned_again_alike(tmp_path, monkeypatch):
    folder = tmp_path / "whole"
    folder.mkdir()
    job = [*TINY, *FAST, "adapter.reset=never"]
    assert run_here(job, folder).code == 0
    # Another pace of saving is no other run.
    rare = interrupted_run([*job, "trainer.save_task_seconds=1e6"], tmp_path, monkeypatch, rows=3)
    assert rare.name == only_run(folder).name
    assert [path.name for path in in_order(rare / "checkpoints")] == ["task-0000", "task-0003"]
    assert (rare / "results.json").read_bytes() == (only_run(folder) / "results.json").read_bytes()
