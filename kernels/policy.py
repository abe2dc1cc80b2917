"""Policy gradients on groups of rollouts: advantages, and the loss of CISPO.

Shapes: R rollouts, A answer tokens, V vocabulary; `group_R` int64 in 0..groups-1.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Standard deviations below this are none: all rewards of a group are equal.
EPS = 1e-6


def group_mean(x_R: Tensor, group_R: Tensor, groups: int) -> Tensor:
    """The mean of each group, [groups]; NaN for one that is empty."""
    sums = x_R.new_zeros(groups).index_add_(0, group_R, x_R)
    counts = x_R.new_zeros(groups).index_add_(0, group_R, torch.ones_like(x_R))
    return sums / counts


def advantages(reward_R: Tensor, group_R: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """(A_R, is_mixed_G): A = (r - mean) / std over the group (GRPO, arXiv 2402.03300; std of the population).

    A group whose rewards are all equal says nothing: its advantages are 0, and it is not mixed.
    """
    centred_R = reward_R - group_mean(reward_R, group_R, groups)[group_R]
    std_G = group_mean(centred_R.square(), group_R, groups).sqrt()
    mixed_G = std_G > EPS
    return torch.where(mixed_G[group_R], centred_R / (std_G[group_R] + EPS), 0.0), mixed_G


def cispo(logp_RA: Tensor, old_RA: Tensor, advantage_R: Tensor, *, clip: float) -> Tensor:
    """The loss of each rollout, [R]: - mean over tokens of stop_gradient(min(ratio, clip)) * A * log p.

    CISPO (MiniMax-M1, arXiv 2506.13585; ScaleRL): the importance weight is truncated, not the update, so every token
    keeps its gradient. `ratio` = p / p_old.
    """
    weight_RA = (logp_RA.detach() - old_RA).exp().clamp(max=clip)
    return -(weight_RA * advantage_R[:, None] * logp_RA).mean(1)


def kl(logp_RAV: Tensor, other_RAV: Tensor) -> Tensor:
    """KL(p || other) of each token in nats, summed over the vocabulary: [R, A]."""
    return (logp_RAV.exp() * (logp_RAV - other_RAV)).sum(-1)


def entropy(logp_RAV: Tensor) -> Tensor:
    """Of each token in nats: [R, A]."""
    return -(logp_RAV.exp() * logp_RAV).sum(-1)
