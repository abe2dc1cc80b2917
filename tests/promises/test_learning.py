"""Promises about learning catch an optimizer with a hidden state, and weights that nothing reaches."""

from __future__ import annotations

import pytest
import torch
from strategy_jobs import MLP, NANO, config_of

from ttt.learner import Learner
from ttt.promises.learning import (
    gradients_reach,
    parameters_once,
    rate_scales,
    starts_plain,
    state_restored,
    steps_finite,
)  # fmt: skip
from ttt.promises.runs import TinyRun
from ttt.promises.shapes import scores_vocabulary


class Stepping(torch.optim.Optimizer):
    """Plain descent, with something wrong in it."""

    def __init__(self, parameters, *, wrong=""):
        super().__init__(parameters, {"lr": 0.1})
        self.wrong, self.count = wrong, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            rate = 0.1 if self.wrong == "rate" else group["lr"]
            rate *= self.count if self.wrong == "hidden" else 1
            for parameter in group["params"]:
                if self.wrong != "still":
                    parameter.sub_(parameter.grad * (float("nan") if self.wrong == "nan" else rate))


def run_with(monkeypatch: pytest.MonkeyPatch, wrong: str) -> TinyRun:
    """A tiny run with this optimizer in place of its own."""

    def configure(learner):
        parameters = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
        return Stepping(parameters[1:] if wrong == "left out" else parameters, wrong=wrong)

    monkeypatch.setattr(Learner, "configure_optimizers", configure)
    return TinyRun(config_of(*MLP))


BROKEN = [
    ("nan", steps_finite, "nan"),
    ("still", steps_finite, "no weight moves"),
    ("left out", parameters_once, "0 groups"),
    ("rate", rate_scales, "learning rate of 0"),
    ("hidden", state_restored, "restored"),
]


@pytest.mark.parametrize(("wrong", "promise", "where"), BROKEN)
def test_a_broken_optimizer_shows_an_example(wrong, promise, where, monkeypatch):
    assert promise(run_with(monkeypatch, "")).holds
    ruling = promise(run_with(monkeypatch, wrong))
    assert ruling.holds is False
    assert where in ruling.why


def test_a_weight_that_nothing_reaches_is_named(monkeypatch):
    run = TinyRun(config_of(*MLP))
    assert gradients_reach(run).holds
    configure = Learner.configure_optimizers

    def add_weight(learner):
        learner.model.register_parameter("unused", torch.nn.Parameter(torch.ones(2)))
        return configure(learner)

    monkeypatch.setattr(Learner, "configure_optimizers", add_weight)
    ruling = gradients_reach(run)
    assert ruling.holds is False
    assert ruling.why.startswith("unused: ")


def test_scores_and_the_start_of_an_adapter():
    run = TinyRun(config_of(*NANO))
    assert scores_vocabulary(run).holds
    assert starts_plain(run).holds
    with torch.no_grad():
        run.plain.learner.model.embed_tokens.weight.mul_(2)
    ruling = starts_plain(run)
    assert ruling.holds is False
    assert "row 0, position 0" in ruling.why
