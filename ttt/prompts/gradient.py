"""A round of gradient steps on soft prompts, by the policy gradient of the slow channel.

    each step   G rollouts for each of some problems, evenly over K prompts
                S_k <- S_k - step * Adam(grad_k loss)
    at the end  sort the prompts by their mean reward in this round, the best first

The first round begins from independent draws, since K prompts that start at zero would stay the
same. Slow weights do not change.
Shapes: K prompts, P words of a prompt, D model width, Q problems, R rollouts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ttt.prompts.rollouts import Play, evenly

# Adam (arXiv 1412.6980) with a short second moment: a round has few steps, and slow weights move
# between rounds, so old gradients soon stop being representative.
BETA1, BETA2, EPS = 0.9, 0.99, 1e-8


@dataclass(frozen=True)
class Ascent:
    """Settings of the gradient steps, explained in conf/adapter/soft_prompt.yaml."""

    emit: int
    step: float
    steps: int
    problems: int
    spread: float

    def fit(self, *, rows: int, group: int, budget: int) -> tuple[int, int]:
        """Return (steps, problems of a step) within `budget` rollouts; steps are cut first."""
        problems = min(self.problems, rows, budget // group)
        return (min(self.steps, budget // (problems * group)), problems) if problems else (0, 0)


@dataclass(frozen=True)
class SoftPrompts:
    """K prompts, the best first, with Adam's two moments.

    `record_K`: mean rewards in the last round. `taken`: Adam steps so far.
    """

    prompt_KPD: Tensor
    first_KPD: Tensor
    second_KPD: Tensor
    record_K: Tensor
    taken: Tensor

    def moved(self, gradient_KPD: Tensor, *, step: float) -> SoftPrompts:
        """Return the prompts after one step of Adam at the rate `step`."""
        taken = self.taken + 1
        first_KPD = BETA1 * self.first_KPD + (1 - BETA1) * gradient_KPD
        second_KPD = BETA2 * self.second_KPD + (1 - BETA2) * gradient_KPD.square()
        # Both moments start at zero: they are divided by the weight that they have gathered.
        size_KPD = (second_KPD / (1 - BETA2**taken)).sqrt() + EPS
        prompt_KPD = self.prompt_KPD - step * first_KPD / (1 - BETA1**taken) / size_KPD
        return SoftPrompts(prompt_KPD, first_KPD, second_KPD, self.record_K, taken)

    def ranked(self, record_K: Tensor) -> SoftPrompts:
        """Return the prompts sorted by `record_K`, descending; equal prompts keep their order."""
        order_K = record_K.argsort(descending=True, stable=True)
        moments = self.first_KPD[order_K], self.second_KPD[order_K]
        return SoftPrompts(self.prompt_KPD[order_K], *moments, record_K[order_K], self.taken)


def train_prompts(
    prompts: SoftPrompts, play: Play, ascent: Ascent, *, rows: int, budget: int, scale: float
) -> tuple[SoftPrompts, int]:
    """Run a round on a batch of `rows` problems.

    Return the prompts and the number of rollouts it took.

    `scale`: the standard deviation of the embeddings. Draws from torch's global generator.
    """
    steps, problems = ascent.fit(rows=rows, group=play.group, budget=budget)
    if not steps:
        return prompts, 0
    # All zero: the seed prompt K times, before the first round.
    if not bool(prompts.prompt_KPD.any()):
        prompts = replace(prompts, prompt_KPD=ascent.spread * scale * torch.randn_like(prompts.prompt_KPD))
    earned_K, played_K = torch.zeros_like(prompts.record_K), torch.zeros_like(prompts.record_K)
    for number in range(steps):
        # Each step takes the next problems, and starts over at the end of the batch.
        problem_Q = torch.arange(number * problems, (number + 1) * problems, device=earned_K.device) % rows
        problem_R, lane_R = evenly(problem_Q, group=play.group, prompts=ascent.emit)
        gradient_KPD, reward_R = prompt_gradient(prompts.prompt_KPD, play, problem_R, lane_R)
        prompts = prompts.moved(gradient_KPD, step=ascent.step)
        earned_K.index_add_(0, lane_R, reward_R)
        played_K.index_add_(0, lane_R, torch.ones_like(reward_R))
    return prompts.ranked(earned_K / played_K), steps * problems * play.group


def prompt_gradient(prompt_KPD: Tensor, play: Play, problem_R: Tensor, lane_R: Tensor) -> tuple[Tensor, Tensor]:
    """Play rollouts. Return the gradient of their loss [K, P, D], and their rewards [R]."""
    # A strategy that freezes the slow weights trains without a graph, but prompts need one.
    with torch.enable_grad():
        leaf_KPD = prompt_KPD.detach().requires_grad_()
        played = play(problem_R, leaf_KPD[lane_R])
        (gradient_KPD,) = torch.autograd.grad(play.loss(played), leaf_KPD)
    return gradient_KPD, played.reward_R
