"""Which prompts are worth keeping, by their rewards on the same problems.

    problem      1  2  3  4
    prompt 0     1  1  0  0     dominated: 1 does as well wherever 0 is among the best
    prompt 1     1  1  1  0     frontier
    prompt 2     0  0  0  1     frontier: the best on problem 4

Instance-wise Pareto selection as in GEPA (arXiv 2507.19457); tests compare it with gepa.gepa_utils
of the package. Of equal prompts the first is kept. Shapes: N prompts, V problems.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fronts(score_NV: Tensor) -> Tensor:
    """Return [N, V] of bool: is the prompt among the best on the problem?"""
    return score_NV == score_NV.max(0).values


def pareto_frontier(score_NV: Tensor) -> Tensor:
    """Return [N] of bool: is the prompt on the frontier?

    Prompts are removed one by one, the worst mean first, where another remaining prompt is as good
    on every problem on which they are among the best.
    """
    front_NV = fronts(score_NV)
    alive_N = front_NV.any(1)
    # The order decides which of several prompts with the same front stays: the best mean.
    for n in reversed(by_mean(score_NV)):
        # On these problems another remaining prompt is among the best as well.
        company_V = front_NV[alive_N].sum(0) > 1
        if alive_N[n] and bool(company_V[front_NV[n]].all()):
            alive_N[n] = False
    return alive_N


def parent_weights(score_NV: Tensor) -> Tensor:
    """Return [N], the weights with which GEPA draws parents.

    The weight of a prompt on the frontier is the number of problems on which it is among the best;
    other prompts have weight 0.
    """
    return (fronts(score_NV) & pareto_frontier(score_NV)[:, None]).sum(1).float()


def by_mean(score_NV: Tensor) -> list[int]:
    """Return the prompts in order of their mean reward, the best first."""
    # In fp64 equal means compare equal; Python's sort is stable, so the first of them stays first.
    mean = score_NV.double().mean(1).tolist()
    return sorted(range(len(mean)), key=lambda n: -mean[n])


def select_pool(score_NV: Tensor, size: int) -> list[int]:
    """Return at most `size` prompts: the best mean, the frontier, then others, by mean each."""
    # The best mean may be off the frontier, where several lower prompts match its fronts together.
    order, frontier_N = by_mean(score_NV), pareto_frontier(score_NV)
    others = sorted(order[1:], key=lambda n: not frontier_N[n])
    return [order[0], *others][:size]


def cover(score_NV: Tensor, size: int) -> list[int]:
    """Return at most `size` prompts that together reach high rewards, chosen greedily.

    First comes the best mean, then whatever adds most to the sum over problems of the best reward
    so far; of equals the better mean.
    """
    order = by_mean(score_NV)
    chosen, rest = [order[0]], order[1:]
    while rest and len(chosen) < size:
        best_V = score_NV[chosen].max(0).values
        gain = (score_NV[rest] - best_V).clamp(min=0).double().sum(1)
        # argmax takes the first of equals, and `rest` is in order of the mean.
        chosen.append(rest.pop(int(torch.argmax(gain))))
    return chosen
