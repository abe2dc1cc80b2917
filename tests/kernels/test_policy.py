"""Advantages and the CISPO loss agree with numbers by hand and have their properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttt.kernels import policy


def test_advantages_by_hand():
    reward = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    group = torch.tensor([0, 0, 0, 0, 1, 1])
    got, mixed = policy.advantages(reward, group, 2)
    # Mean 1/4, deviation sqrt(3)/4: (3/4) / (sqrt(3)/4) = sqrt(3).
    torch.testing.assert_close(got[:4], torch.tensor([3**0.5, *[-(3**-0.5)] * 3]), atol=1e-5, rtol=0)
    assert got[4:].tolist() == [0, 0]
    assert mixed.tolist() == [True, False]


def test_groups_need_not_stand_together():
    reward, group = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0, 1, 0, 1])
    got, _ = policy.advantages(reward, group, 2)
    torch.testing.assert_close(got, torch.tensor([1.0, 1.0, -1.0, -1.0]), atol=1e-5, rtol=0)


@given(st.lists(st.integers(0, 1), min_size=8, max_size=8), st.permutations(range(8)))
def test_advantages_are_centred_and_follow_their_rollouts(rewards: list[int], order: list[int]):
    reward, group = torch.tensor(rewards).float(), torch.arange(8) // 4
    got, mixed = policy.advantages(reward, group, 2)
    for g in range(2):
        assert abs(float(got[group == g].sum())) < 1e-4
        assert bool(mixed[g]) == (0 < reward[group == g].sum() < 4)
    moved, _ = policy.advantages(reward[order], group[order], 2)
    torch.testing.assert_close(moved, got[order])


def test_the_gradient_of_cispo_is_the_one_written_by_hand():
    """d loss / d logits = -w A (onehot - softmax) / tokens, for two rollouts of two tokens."""
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    answer, advantage = torch.tensor([[0, 2], [1, 1]]), torch.tensor([1.5, -0.5], dtype=torch.float64)
    logp = logits.log_softmax(-1).gather(2, answer[..., None])[..., 0]
    # p / p_old = 2, 10 (truncated to 4), 1/2, 1.
    old = logp.detach() - torch.tensor([[2.0, 10.0], [0.5, 1.0]], dtype=torch.float64).log()
    policy.cispo(logp, old, advantage, clip=4.0).sum().backward()
    weight = torch.tensor([[2.0, 4.0], [0.5, 1.0]], dtype=torch.float64)
    onehot = torch.nn.functional.one_hot(answer, 3)
    expected = -(weight * advantage[:, None])[..., None] * (onehot - logits.detach().softmax(-1)) / 2
    torch.testing.assert_close(logits.grad, expected)


def test_a_clipped_token_keeps_its_gradient():
    """PPO's clip would stop this gradient."""
    logp = torch.tensor([[0.0]], requires_grad=True)
    policy.cispo(logp, torch.tensor([[-5.0]]), torch.tensor([1.0]), clip=2.0).sum().backward()
    assert logp.grad is not None
    assert float(logp.grad) == -2.0


def test_divergence_and_entropy_by_hand():
    p, q = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.25, 0.75]]])
    got = policy.kl(p.log(), q.log())
    assert float(got) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert float(policy.kl(p.log(), p.log())) == 0
    assert float(policy.entropy(p.log())) == pytest.approx(math.log(2))
