"""A small policy under `objective=reward`: built, trained and rewarded by a test.

Shapes: R rollouts, K prompts, P prompt, D model width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from policies import RULES
from torch import Tensor

from ttt.devices.one_device import OneDevice
from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine, Learner
from ttt.objectives.reward import Reward
from ttt.prompts.rollouts import Rollouts
from ttt.results.scores import Scores
from ttt.run.assemble import Assembly, assemble
from ttt.run.compose import compose_run
from ttt.stream import Layout
from ttt.training.recipe import Recipe
from ttt.training.train import Progress, train

SOFT = (
    "adapter=soft_prompt",
    "adapter.emit=4",
    "adapter.problems=2",
    "adapter.steps=2",
    "objective.cycle.slow_steps=3",
)


@dataclass(frozen=True)
class SmallPolicy:
    """A run of `objective=reward` on one device, before its first step."""

    engine: Engine
    recipe: Recipe
    tasks: list[Any]

    @property
    def learner(self) -> Learner:
        return self.engine.learner

    @property
    def model(self) -> Any:
        return self.learner.model

    @property
    def adapter(self) -> Any:
        return self.learner.adapter

    @property
    def objective(self) -> Reward:
        assert isinstance(self.recipe.objective, Reward)
        return self.recipe.objective

    @property
    def layout(self) -> Layout:
        return self.objective.layout

    def steps(self, number: int, *, task: Any = None) -> list[Progress]:
        """Train on the first task, or on `task`; return a report of each step."""
        return list(train(self.engine, task or self.tasks[0], recipe=self.recipe, steps=number, report_every=1))

    def pay(self, reward: Callable[[Rollouts], Tensor]) -> list[Rollouts]:
        """Let `reward` be the reward from now on; return the list that collects all rollouts."""
        objective, play = self.objective, self.objective.play
        played: list[Rollouts] = []

        def rewarded(*arguments: Any) -> Rollouts:
            rollouts = play(*arguments)
            played.append(replace(rollouts, reward_R=reward(rollouts).float()))
            return played[-1]

        objective.play = rewarded  # type: ignore[method-assign]
        return played

    def scores(self, task: Any = None) -> Scores:
        """Return the scores of the first task, or of `task`, in every mode."""
        return evaluate(self.engine, [(task or self.tasks[0]).evaluation()], recipe=self.recipe, tasks=[0])

    def weights(self) -> dict[str, Tensor]:
        return {name: x.detach() for name, x in self.model.named_parameters()}

    def random_prompts(self) -> Tensor:
        """Return K random soft prompts, [K, P, D]."""
        like = self.adapter.initial()["prompt"][0]
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


def small_policy(*overrides: str, size: float = 1.0) -> SmallPolicy:
    """Build a policy whose matrices are `size` times as large as usual.

    Large matrices make the answers depend on what is read, which those of a new model hardly do.
    """
    assembly = assembled(*overrides)
    engine = assembly.engine(OneDevice(torch.device("cpu"), precision="32-true"), None)
    with torch.no_grad():
        for parameter in engine.learner.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(size)
    # The weights changed, and with them the base from which the objective measures.
    assembly.recipe.objective.begin(engine.learner)
    return SmallPolicy(engine, assembly.recipe, list(assembly.stream.tasks))


def soft_policy(*overrides: str, size: float = 8.0) -> SmallPolicy:
    """Build a policy with soft prompts, by the overrides of SOFT."""
    return small_policy(*SOFT, *overrides, size=size)


def assembled(*overrides: str) -> Assembly:
    return assemble(_config(overrides), trusted=[])


@functools.cache
def _config(overrides: tuple[str, ...]) -> dict[str, Any]:
    return compose_run((*RULES, *overrides))


def is_even(rollouts: Rollouts) -> Tensor:
    """A reward that about half of all answers earn: their first token is even."""
    return rollouts.answer_RA[:, 0] % 2 == 0


def no_reward(rollouts: Rollouts) -> Tensor:
    return torch.zeros(len(rollouts.reward_R))
