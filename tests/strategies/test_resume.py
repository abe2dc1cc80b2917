"""A run that was stopped goes on to the last bit as if it had not been."""

from __future__ import annotations

import pytest
from strategy_jobs import JOBS, MLP, SERVED, SPLIT, STRATEGIES, config_of

from ttt.promises.runs import TinyRun, goes_on

# Adam: its moments must come back too.
ADAM = ("optimizer=adamw", "optimizer.lr=0.01")
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
def test_a_run_that_stopped_goes_on_to_the_last_bit(case):
    """Every tensor of the last checkpoint, the strategy's among them, and every number in R."""
    ruling = goes_on(TinyRun(config_of(*CASES[case], *ADAM)).assembly)
    assert ruling.holds, ruling.why
