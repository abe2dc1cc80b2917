"""What a checkpoint gives back to an engine."""

from __future__ import annotations

import pytest
import torch
from learning import learn_task
from stopped_jobs import CHUNKED, JOBS, TOKENS
from stopping import broken, unbroken
from strategy_jobs import make

from ttt.storage.checkpoint import Checkpoint, load, save
from ttt.training.engine_state import engine_tensors, restore_engine


def test_fast_weights_come_back_in_the_order_in_which_gradients_are_summed(tmp_path):
    _, engine = make(*TOKENS, "adapter=sgd_fast", "adapter.chunk=4")
    names = list(engine.learner.adapter.initial())
    # Files sort by name: only such a state can come back in another order.
    assert names != sorted(names)
    engine.learner.fast = {name: torch.rand_like(x) for name, x in engine.learner.adapter.initial().items()}
    before = dict(engine.learner.fast)
    save(tmp_path / "task-0001", Checkpoint(engine_tensors(engine), {}))
    restore_engine(engine, load(tmp_path / "task-0001").tensors)
    assert list(engine.learner.fast) == names
    assert all(torch.equal(engine.learner.fast[name], before[name]) for name in names)


@pytest.mark.parametrize("adapter", CHUNKED)
def test_a_state_keeps_its_order_and_lies_in_one_piece(adapter):
    assembly, engine = make(*JOBS[f"adapter-{adapter}"])
    learn_task(engine, assembly, 0)
    # As it comes back from a file.
    assert list(engine.learner.fast) == list(engine.learner.adapter.initial())
    assert all(x.is_contiguous() for x in engine.learner.fast.values())


def test_a_rate_is_reported_where_no_step_is_due_and_the_run_has_just_gone_on(tmp_path):
    def new():
        return make(*JOBS["pace-slow"])

    whole, _ = unbroken(new, tmp_path / "whole")
    # The third rest is the end of the first task.
    assert broken(new, tmp_path / "broken", stops=[3]) == whole
