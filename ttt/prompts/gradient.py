"""A round of gradient on soft prompts: the policy gradient of the slow channel, at a rate of its own (Adam).

    each step   G rollouts of each of some problems, evenly over K prompts;  S_k <- S_k - step * Adam(grad_k loss)
    after all   the prompts by their mean reward in this round, the best first

The first round begins from independent draws: from zero all K would be one. Slow weights are as they are.
Shapes: K prompts, P words of a prompt, D model width, Q problems, R rollouts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ttt.prompts.rollouts import Play, evenly

# Adam's (arXiv 1412.6980). The second moment is short: there are few steps, and slow weights move between rounds.
BETA1, BETA2, EPS = 0.9, 0.99, 1e-8


@dataclass(frozen=True)
class Ascent:
    """Arguments of conf/adapter/soft_prompt.yaml. Raises ValueError."""

    emit: int
    step: float
    steps: int
    problems: int
    spread: float

    def __post_init__(self) -> None:
        for argument, number in (("emit", self.emit), ("steps", self.steps), ("problems", self.problems)):
            if number < 1:
                raise ValueError(f"adapter.{argument}={number}: must be at least 1")
        for argument, value in (("step", self.step), ("spread", self.spread)):
            if not 0 < value < float("inf"):
                raise ValueError(f"adapter.{argument}={value}: must be above 0")

    def fit(self, *, rows: int, group: int, budget: int) -> tuple[int, int]:
        """(steps, problems of each) that `budget` rollouts reach: fewer steps first, then fewer problems."""
        problems = min(self.problems, rows, budget // group)
        return (min(self.steps, budget // (problems * group)), problems) if problems else (0, 0)


@dataclass(frozen=True)
class Prompts:
    """K prompts, the best first, with Adam's moments, `taken` steps old, and their mean rewards in the last round."""

    prompt_KPD: Tensor
    first_KPD: Tensor
    second_KPD: Tensor
    record_K: Tensor
    taken: Tensor

    def moved(self, gradient_KPD: Tensor, *, step: float) -> Prompts:
        taken = self.taken + 1
        first_KPD = BETA1 * self.first_KPD + (1 - BETA1) * gradient_KPD
        second_KPD = BETA2 * self.second_KPD + (1 - BETA2) * gradient_KPD.square()
        size_KPD = (second_KPD / (1 - BETA2**taken)).sqrt() + EPS
        prompt_KPD = self.prompt_KPD - step * first_KPD / (1 - BETA1**taken) / size_KPD
        return Prompts(prompt_KPD, first_KPD, second_KPD, self.record_K, taken)

    def ranked(self, record_K: Tensor) -> Prompts:
        """By these rewards; of equals the one that was before stays before."""
        order_K = record_K.argsort(descending=True, stable=True)
        moments = self.first_KPD[order_K], self.second_KPD[order_K]
        return Prompts(self.prompt_KPD[order_K], *moments, record_K[order_K], self.taken)


def climb(prompts: Prompts, play: Play, ascent: Ascent, *, rows: int, budget: int, scale: float) -> tuple[Prompts, int]:
    """The prompts after a round on a batch of `rows` problems, and how many rollouts it took; `scale`: the spread of
    embeddings. Draws from torch's global generator."""
    steps, problems = ascent.fit(rows=rows, group=play.group, budget=budget)
    if not steps:
        return prompts, 0
    if not bool(prompts.prompt_KPD.any()):
        prompts = replace(prompts, prompt_KPD=ascent.spread * scale * torch.randn_like(prompts.prompt_KPD))
    earned_K, played_K = torch.zeros_like(prompts.record_K), torch.zeros_like(prompts.record_K)
    for number in range(steps):
        # Other problems in each step, until the batch is through.
        problem_Q = torch.arange(number * problems, (number + 1) * problems, device=earned_K.device) % rows
        problem_R, lane_R = evenly(problem_Q, group=play.group, prompts=ascent.emit)
        gradient_KPD, reward_R = ascend(prompts.prompt_KPD, play, problem_R, lane_R)
        prompts = prompts.moved(gradient_KPD, step=ascent.step)
        earned_K.index_add_(0, lane_R, reward_R)
        played_K.index_add_(0, lane_R, torch.ones_like(reward_R))
    return prompts.ranked(earned_K / played_K), steps * problems * play.group


def ascend(prompt_KPD: Tensor, play: Play, problem_R: Tensor, lane_R: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the loss of new rollouts by the prompts, [K, P, D], and their rewards."""
    # A frozen strategy trains without a graph; prompts need one all the same.
    with torch.enable_grad():
        leaf_KPD = prompt_KPD.detach().requires_grad_()
        played = play(problem_R, leaf_KPD[lane_R])
        (gradient_KPD,) = torch.autograd.grad(play.loss(played), leaf_KPD)
    return gradient_KPD, played.reward_R
