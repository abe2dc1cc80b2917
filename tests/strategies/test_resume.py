"""A run that was stopped goes on to the last bit as if it had not been."""

from __future__ import annotations

import pytest
import torch
from strategy_jobs import JOBS, MLP, SERVED, SPLIT, STRATEGIES, make
from streams import stream_to_the_end

from ttt.storage import checkpoint

# Adam: its moments must come back too.
ADAM = ("optimizer=adamw", "optimizer.lr=0.01")
STATELESS = ("joint", "cumulative", "frozen", "distill", "lora_task")
CASES = {
    **{f"{name}-{job}": (*JOBS[job], *STRATEGIES[name]) for name, job in SERVED},
    "replay-split": (*SPLIT, *STRATEGIES["replay"], "strategy.balance=class"),
    "der-split": (*SPLIT, *STRATEGIES["der"], "strategy.balance=task"),
    "lwf-split": (*SPLIT, *STRATEGIES["lwf"]),
    "replay+lwf": (*SPLIT, *STRATEGIES["replay"], "strategy@also=lwf"),
    "lwf+der": (*SPLIT, *STRATEGIES["lwf"], "strategy@also=der"),
    "shrink_perturb-task": (*MLP, *STRATEGIES["shrink_perturb"], "strategy.every=task"),
    "layer_reset-start": (*MLP, *STRATEGIES["layer_reset"], "strategy.to=start"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_stopped_goes_on_to_the_last_bit(case, tmp_path):
    """Every tensor of the last checkpoint, the strategy's among them, and every number in R."""
    job = (*CASES[case], *ADAM)
    stream_to_the_end(*make(*job), tmp_path / "whole")
    stream_to_the_end(*make(*job), tmp_path / "rest", after=tmp_path / "whole" / "task-0002")
    whole, rest = (checkpoint.load(tmp_path / side / "task-0003") for side in ("whole", "rest"))
    assert whole.tensors["strategy"] or case.rpartition("-")[0] in STATELESS
    for group, tensors in whole.tensors.items():
        assert tensors.keys() == rest.tensors[group].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, rest.tensors[group][key]), (group, key)
    assert whole.state["rows"] == rest.state["rows"]
