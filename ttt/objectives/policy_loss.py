"""The policy-gradient loss of rollouts: CISPO on advantages within groups.

The gradient reaches whatever the log-probabilities depend on: slow weights or soft prompts.
Shapes: R rollouts, A answer, V vocabulary, G groups, P prompt, X numbers of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ttt.kernels import policy
from ttt.prompts.rollouts import Rollouts

# Advantages compare rewards among all rollouts of a problem, or among those under one prompt.
Baseline = Literal["problem", "prompt"]
# Largest difference in nats between log-probabilities at sampling and at training. Rounding stays
# far below it, while a wrong prompt, mask or temperature costs whole nats.
LOGP_TOLERANCE = 0.5


class PolicyLoss(NamedTuple):
    """The loss of rollouts, with numbers of the pass that computed it.

    `value`: the loss; `logp_RAV`: the log-probabilities that were read; `logp_gap`: the largest
    difference in nats between sampled and recomputed log-probabilities. All three are None if no
    group has mixed rewards and nothing was read. `zero_variance`: the share of groups whose rewards
    are all equal; they teach nothing.
    """

    value: Tensor | None
    logp_RAV: Tensor | None
    logp_gap: float | None
    zero_variance: float


# log-probabilities [R, A, V] of rollouts
Read = Callable[[Rollouts], Tensor]


@dataclass(frozen=True)
class PolicyGradient:
    """Settings of the loss, explained in conf/objective/reward.yaml."""

    baseline: Baseline
    clip: float
    entropy: float
    kl: float

    def loss(self, rollouts: Rollouts, read: Read, *, read_all: bool) -> PolicyLoss:
        """The loss alone, without regularisers."""
        return policy_loss(rollouts, read, baseline=self.baseline, clip=self.clip, read_all=read_all)

    def slow_loss(
        self, rollouts: Rollouts, read: Read, read_base: Callable[[], Tensor]
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Return the loss with its regularisers, None where nothing teaches; and numbers to watch.

        `read_base`: the base's log-probabilities of all rollouts.
        """
        # Regularisers are means over all rollouts; the policy loss alone needs only mixed groups.
        loss = self.loss(rollouts, read, read_all=bool(self.entropy or self.kl))
        observed = {"zero_variance": loss.zero_variance}
        if loss.value is None or loss.logp_RAV is None or loss.logp_gap is None:
            return None, observed
        value, observed = loss.value, observed | {"logp_gap": loss.logp_gap}
        # Both are exact over the vocabulary, so their gradients have less noise than sampled ones.
        if self.entropy:
            value = value - self.entropy * policy.entropy(loss.logp_RAV).mean()
        if self.kl:
            with torch.no_grad():
                base_RAV = read_base()
            kl = policy.kl(loss.logp_RAV, base_RAV).mean()
            value, observed = value + self.kl * kl, observed | {"kl": float(kl.detach())}
        return value, observed


def policy_loss(rollouts: Rollouts, read: Read, *, baseline: Baseline, clip: float, read_all: bool) -> PolicyLoss:
    """Return the mean loss over groups with mixed rewards.

    `read` returns the log-probabilities [R, A, V] of rollouts. It reads the groups with mixed
    rewards, or all groups if `read_all`. Raises RuntimeError if they disagree with the sampled
    ones.
    """
    group_R, groups = baseline_groups(rollouts, baseline)
    # A group is mixed if its rewards differ.
    advantage_R, mixed_G = policy.advantages(rollouts.reward_R, group_R, groups)
    zero_variance = 1 - float(mixed_G.float().mean())
    # Equal rewards mean advantages of zero: reading those groups would cost time for no gradient.
    needed_R = mixed_G[group_R] | read_all
    if not bool(needed_R.any()):
        return PolicyLoss(None, None, None, zero_variance)
    rollouts, group_R, advantage_R = rollouts.pick(needed_R), group_R[needed_R], advantage_R[needed_R]
    logp_RAV = read(rollouts)
    logp_RA = logp_RAV.gather(2, rollouts.answer_RA[..., None])[..., 0]
    gap = float((logp_RA.detach() - rollouts.logp_RA).abs().max())
    # Written this way round so that NaN fails as well.
    if not gap < LOGP_TOLERANCE:
        raise RuntimeError(f"log-probabilities of rollouts are {gap:.3g} nats off those of training")
    loss_R = policy.cispo(logp_RA, rollouts.logp_RA, advantage_R, clip=clip)
    # Means within groups first, so that every problem counts alike.
    loss_G = policy.group_mean(loss_R, group_R, groups)
    # Without a mixed group the mean would be NaN; the sum keeps the graph, with a gradient of zero.
    value = loss_G[mixed_G].mean() if bool(mixed_G.any()) else 0.0 * loss_R.sum()
    return PolicyLoss(value, logp_RAV, gap, zero_variance)


def baseline_groups(rollouts: Rollouts, baseline: Baseline) -> tuple[Tensor, int]:
    """Return the group of each rollout, [R], and the number of groups."""
    if baseline == "problem":
        keys, group_R = torch.unique(rollouts.problem_R, return_inverse=True)
    else:
        # Vectors are flattened: prompts are equal if all their numbers are.
        prompt_RX = rollouts.prompt_RP.detach().flatten(1)
        key_RX = torch.cat([rollouts.problem_R[:, None], prompt_RX], 1)
        keys, group_R = torch.unique(key_RX, dim=0, return_inverse=True)
    return group_R, len(keys)


def zero_loss(model: nn.Module) -> Tensor:
    """Return a zero loss over all parameters.

    The optimizer still steps, and its moments decay as after any gradient of zero.
    """
    return torch.stack([0.0 * x.sum() for x in model.parameters()]).sum()
