"""Which prompts are worth keeping, by the rewards they got on the same problems.

    problem      1  2  3  4
    prompt 0     1  1  0  0     dominated: 1 does as well wherever 0 is among the best
    prompt 1     1  1  1  0     frontier
    prompt 2     0  0  0  1     frontier: the best on problem 4

Instance-wise Pareto selection as in GEPA (arXiv 2507.19457; gepa.gepa_utils of the package, which tests compare with).
Equal prompts: the one that stands first is kept. Shapes: N prompts, V problems.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fronts(score_NV: Tensor) -> Tensor:
    """[N, V] bool: is a prompt among the best on a problem?"""
    return score_NV == score_NV.max(0).values


def frontier(score_NV: Tensor) -> Tensor:
    """[N] bool: what is left when those go, worst mean first, that have company in all they are best on."""
    front_NV = fronts(score_NV)
    alive_N = front_NV.any(1)
    for n in reversed(by_mean(score_NV)):
        company_V = front_NV[alive_N].sum(0) > 1
        if alive_N[n] and bool(company_V[front_NV[n]].all()):
            alive_N[n] = False
    return alive_N


def weights(score_NV: Tensor) -> Tensor:
    """[N]: on how many problems each prompt of the frontier is among the best; 0 for the others. GEPA draws parents in
    proportion to it."""
    return (fronts(score_NV) & frontier(score_NV)[:, None]).sum(1).float()


def by_mean(score_NV: Tensor) -> list[int]:
    """Best mean first."""
    mean = score_NV.double().mean(1).tolist()
    return sorted(range(len(mean)), key=lambda n: -mean[n])


def kept(score_NV: Tensor, size: int) -> list[int]:
    """At most `size` prompts: the best mean, then the frontier, then the others, by mean each.

    The best mean is named because it need not be on the frontier: a few lower ones may share all it is best on.
    """
    order, frontier_N = by_mean(score_NV), frontier(score_NV)
    others = sorted(order[1:], key=lambda n: not frontier_N[n])
    return [order[0], *others][:size]


def cover(score_NV: Tensor, size: int) -> list[int]:
    """At most `size` prompts, greedily: the best mean, then whatever adds most to the best reward on each problem, of
    equals the better mean."""
    order = by_mean(score_NV)
    chosen, rest = [order[0]], order[1:]
    while rest and len(chosen) < size:
        best_V = score_NV[chosen].max(0).values
        gain = (score_NV[rest] - best_V).clamp(min=0).double().sum(1)
        chosen.append(rest.pop(int(torch.argmax(gain))))
    return chosen
