"""What a checkpoint gives back to an engine."""

from __future__ import annotations

import torch
from stopped_jobs import TOKENS
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
