"""What rollouts teach: CISPO on advantages within groups, for whatever their log-probabilities depend on.

Shapes: R rollouts, A answer, V vocabulary, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ttt.kernels import policy
from ttt.prompts.rollouts import Rollouts

# Nats by which log-probabilities may differ between sampling and training; a mistake shows as whole nats.
AGREE = 0.5


class Lesson(NamedTuple):
    """`loss` of the groups whose rewards differ; `logp_RAV` of what was read for it, and `gap`: by how much, in nats,
    log-probabilities sampled and computed again differ at most. None where nothing was read. `zero_variance`: share of
    groups that teach nothing."""

    loss: Tensor | None
    logp_RAV: Tensor | None
    gap: float | None
    zero_variance: float


def lesson(
    rollouts: Rollouts, read: Callable[[Rollouts], Tensor], *, baseline: str, clip: float, every: bool
) -> Lesson:
    """`read`: log-probabilities [R, A, V] of rollouts, asked for those of groups whose rewards differ, or for `every`
    one: others move nothing. `baseline`: problem | prompt, within which rewards are compared. Raises RuntimeError where
    log-probabilities do not agree."""
    group_R, groups = grouped(rollouts, baseline)
    advantage_R, mixed_G = policy.advantages(rollouts.reward_R, group_R, groups)
    zero_variance = 1 - float(mixed_G.float().mean())
    kept_R = mixed_G[group_R] | every
    if not bool(kept_R.any()):
        return Lesson(None, None, None, zero_variance)
    rollouts, group_R, advantage_R = rollouts.pick(kept_R), group_R[kept_R], advantage_R[kept_R]
    logp_RAV = read(rollouts)
    logp_RA = logp_RAV.gather(2, rollouts.answer_RA[..., None])[..., 0]
    gap = float((logp_RA.detach() - rollouts.logp_RA).abs().max())
    if not gap < AGREE:
        raise RuntimeError(f"log-probabilities of rollouts are {gap:.3g} nats off those of training")
    loss_R = policy.cispo(logp_RA, rollouts.logp_RA, advantage_R, clip=clip)
    loss_G = policy.group_mean(loss_R, group_R, groups)
    # Nothing to learn from is a gradient of zero, not of NaN.
    loss = loss_G[mixed_G].mean() if bool(mixed_G.any()) else 0.0 * loss_R.sum()
    return Lesson(loss, logp_RAV, gap, zero_variance)


def grouped(rollouts: Rollouts, baseline: str) -> tuple[Tensor, int]:
    """The group of each rollout, and how many there are."""
    if baseline == "problem":
        found, group_R = torch.unique(rollouts.problem_R, return_inverse=True)
    else:
        prompt_RX = rollouts.prompt_RP.detach().flatten(1)
        key_R = torch.cat([rollouts.problem_R[:, None], prompt_RX], 1)
        found, group_R = torch.unique(key_R, dim=0, return_inverse=True)
    return group_R, len(found)
