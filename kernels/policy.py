"""Policy gradients on groups of rollouts: advantages, and the CISPO loss.

Shapes: R rollouts, A answer tokens, V vocabulary; `group_R` int64 in 0..groups-1.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A standard deviation below this is rounding: all rewards of the group are equal.
EPS = 1e-6


def group_mean(x_R: Tensor, group_R: Tensor, groups: int) -> Tensor:
    """Return the mean of each group, [groups]; NaN for an empty group."""
    sums = x_R.new_zeros(groups).index_add_(0, group_R, x_R)
    counts = x_R.new_zeros(groups).index_add_(0, group_R, torch.ones_like(x_R))
    return sums / counts


def advantages(reward_R: Tensor, group_R: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return the advantages [R] and which groups are mixed [groups].

    A = (r - mean) / std over the group (GRPO, arXiv 2402.03300), with the population's std.
    A group is mixed if its rewards differ; the advantages of any other group are 0.
    """
    centred_R = reward_R - group_mean(reward_R, group_R, groups)[group_R]
    std_G = group_mean(centred_R.square(), group_R, groups).sqrt()
    mixed_G = std_G > EPS
    return torch.where(mixed_G[group_R], centred_R / (std_G[group_R] + EPS), 0.0), mixed_G


def cispo(logp_RA: Tensor, old_RA: Tensor, advantage_R: Tensor, *, clip: float) -> Tensor:
    """Return the loss of each rollout, [R].

        loss = - mean over tokens of stop_gradient(min(ratio, clip)) A log p,   ratio = p / p_old

    CISPO (MiniMax-M1, arXiv 2506.13585; ScaleRL).
    """
    # PPO clips the update, and a clipped token loses its gradient. Here only the detached weight is
    # truncated, so that rare tokens that matter (the large ratios) go on learning.
    weight_RA = (logp_RA.detach() - old_RA).exp().clamp(max=clip)
    return -(weight_RA * advantage_R[:, None] * logp_RA).mean(1)


def kl(logp_RAV: Tensor, other_RAV: Tensor) -> Tensor:
    """Return KL(p || other) of each token in nats, summed over the vocabulary: [R, A]."""
    return (logp_RAV.exp() * (logp_RAV - other_RAV)).sum(-1)


def entropy(logp_RAV: Tensor) -> Tensor:
    """Return the entropy of each token's distribution in nats: [R, A]."""
    return -(logp_RAV.exp() * logp_RAV).sum(-1)
