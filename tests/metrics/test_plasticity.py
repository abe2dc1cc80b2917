"""Plasticity diagnostics against closed forms and numpy, and where there is nothing to measure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from ttt.metrics.plasticity import (
    dead_zero,
    dormant_tau,
    grad_l2,
    kl_bits,
    ranks,
    singular_values,
    weight_l2,
    weight_rms,
)

RANKS = ("erank", "stable_rank", "rank99_sum", "rank99_sq", "rank_num")
INFINITE = torch.tensor([[1.0, math.inf], [2.0, 3.0]])
NOT_A_NUMBER = torch.tensor([[1.0, math.nan], [2.0, 3.0]])


def rotated(sigma, *, n, m, seed=0, dtype=torch.float64):
    """Return an n x m matrix with the singular values `sigma`."""
    rng = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(size, len(sigma), generator=rng, dtype=torch.float64))[0] for size in (n, m)
    )
    return ((left * torch.tensor(sigma, dtype=torch.float64)) @ right.T).to(dtype)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_ranks_in_closed_form(scale):
    for k in (1, 7, 200):
        # 99 % of 200 equal values take 198 of them, of 7 all.
        held = math.ceil(0.99 * k)
        equal = {"erank": k, "stable_rank": k, "rank99_sum": held, "rank99_sq": held, "rank_num": k}
        for matrix in (torch.eye(k).double(), rotated([3.0] * k, n=210, m=205)):
            assert ranks(scale * matrix) == pytest.approx(equal, rel=1e-9), k
    geometric = [0.5**i for i in range(20)]
    entropy = -sum(p * math.log(p) for p in (s / sum(geometric) for s in geometric))
    rank = ranks(scale * rotated(geometric, n=40, m=25))
    assert rank["erank"] == pytest.approx(math.exp(entropy))
    assert rank["stable_rank"] == pytest.approx(sum(s * s for s in geometric))
    # 1 - 2^-7 is the first above 0.99, and 1 - 4^-4 of the squares.
    assert (rank["rank99_sum"], rank["rank99_sq"], rank["rank_num"]) == (7, 4, 20)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(-5, 5, width=32))
    )
)
def test_ranks_against_numpy(matrix):
    sigma = np.linalg.svd(matrix, compute_uv=False)
    rank = ranks(torch.from_numpy(matrix))
    if not sigma[0]:
        assert rank == dict.fromkeys(RANKS, 0.0)
        return
    share = sigma[sigma > 0] / sigma.sum()
    assert rank["erank"] == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-9)
    norms = np.linalg.norm(matrix) ** 2 / np.linalg.norm(matrix, 2) ** 2
    assert rank["stable_rank"] == pytest.approx(norms, rel=1e-9)
    for name, values in (("rank99_sum", sigma), ("rank99_sq", sigma**2)):
        held = np.cumsum(values) / values.sum()
        k = int(rank[name])
        assert held[k - 1] >= 0.99 - 1e-9
        assert k == 1 or held[k - 2] < 0.99 + 1e-9
    assert rank["stable_rank"] * (1 + 1e-9) >= 1
    assert rank["stable_rank"] <= rank["erank"] * (1 + 1e-9) <= min(matrix.shape) * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_numerical_rank_ignores_rounding_in_any_precision(dtype):
    """A product of 3 factors has rank 3; noise from rounding to `dtype` does not count."""
    matrix = rotated([3.0, 2.0, 1.0], n=30, m=20, dtype=dtype)
    assert ranks(matrix)["rank_num"] == 3
    if dtype == torch.float64:
        assert np.linalg.matrix_rank(matrix.numpy()) == 3


def test_a_zero_matrix_has_rank_zero_and_an_empty_one_has_none():
    assert ranks(torch.zeros(4, 3)) == dict.fromkeys(RANKS, 0.0)
    for nothing in (INFINITE, NOT_A_NUMBER, torch.zeros(0, 3), torch.zeros(3, 0)):
        assert all(map(math.isnan, ranks(nothing).values()))
    with pytest.raises(AssertionError, match="not 3"):
        singular_values(torch.zeros(2, 2, 2))


def test_dormant_units_by_hand():
    # Mean activities 2, 0, 1, 5 and 0.02: scores 1.25, 0, 0.62, 3.1 and 0.0125 of their mean 1.604.
    layer = torch.tensor([[4.0, 0, 1, -5, 0], [0, 0, -1, 5, 0.04]])
    assert dormant_tau([layer], tau=0.0) == pytest.approx(1 / 5)
    assert dormant_tau([layer], tau=0.1) == pytest.approx(2 / 5)
    assert dormant_tau([layer], tau=0.7) == pytest.approx(3 / 5)
    assert dead_zero([layer]) == pytest.approx(1 / 5)
    # Each layer is measured by its mean, and the units of all layers are pooled.
    assert dormant_tau([layer, 1000 * layer[:, :1]], tau=0.1) == pytest.approx(2 / 6)
    assert dead_zero([layer, layer[:, :1]]) == pytest.approx(1 / 6)


def test_units_without_activity_are_dormant_and_without_tokens_unknown():
    silent = torch.zeros(5, 4)
    assert dormant_tau([silent], tau=0.0) == dead_zero([silent]) == 1
    assert dormant_tau([silent, torch.ones(5, 4)], tau=0.1) == 0.5
    for nothing in ([], [torch.zeros(0, 4)], [torch.zeros(4, 0)], [INFINITE], [torch.ones(2, 2), NOT_A_NUMBER]):
        for share in (dead_zero(nothing), dormant_tau(nothing, tau=0.1)):
            assert math.isnan(share)


@given(arrays(np.float32, (6, 4), elements=st.floats(-5, 5, width=32)), st.floats(0.01, 100))
def test_dormancy_has_no_unit(h, scale):
    h, dead = torch.from_numpy(h).double(), dead_zero([torch.from_numpy(h)])
    assert dead <= dormant_tau([h], tau=0.0) <= dormant_tau([h], tau=0.1) <= 1
    # A unit right at the threshold may fall on either side.
    mean = h.abs().mean(0)
    if mean.mean() > 1e-6 and ((mean / mean.mean() - 0.1).abs() > 1e-6).all():
        assert dormant_tau([scale * h], tau=0.1) == dormant_tau([h], tau=0.1)


def test_norms_by_hand_and_in_any_precision():
    tensors = [torch.tensor([[3.0, -4.0]]), torch.tensor([12.0])]
    assert weight_l2(tensors) == 13
    assert weight_rms(tensors) == pytest.approx(13 / math.sqrt(3))
    assert grad_l2([tensors[0], None, tensors[1]]) == 13
    # A sum in bf16 would stop at 256, and squares in fp16 would overflow.
    assert weight_l2([torch.ones(10_000, dtype=torch.bfloat16)]) == 100
    assert weight_l2([torch.full((100,), 1000.0, dtype=torch.float16)]) == pytest.approx(10_000)
    for nothing in (weight_l2([]), weight_rms([]), grad_l2([None])):
        assert math.isnan(nothing)
    for norm in (weight_l2, weight_rms, grad_l2):
        assert math.isnan(norm([NOT_A_NUMBER]))
        assert norm([INFINITE]) == math.inf


def test_norms_of_a_model_against_torch():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2), nn.Linear(3, 3))
    model[:3](torch.randn(4, 5)).square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert None in gradients
    total = nn.utils.clip_grad_norm_(model.parameters(), math.inf)
    assert grad_l2(gradients) == pytest.approx(float(total), rel=1e-6)
    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert weight_l2(model.parameters()) == pytest.approx(float(flat.norm()), rel=1e-6)


def test_kl_by_hand():
    base = torch.tensor([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]]).log()
    now = torch.tensor([[0.25, 0.75], [0.25, 0.75], [0.5, 0.5]]).log()
    by_hand = [0.5 * math.log2(0.5 / 0.25) + 0.5 * math.log2(0.5 / 0.75), 0.0, 1.0]
    for scored in ([True, True, True], [True, False, True], [False, True, False]):
        mean = sum(x for x, s in zip(by_hand, scored, strict=True) if s) / sum(scored)
        assert kl_bits(base, now, scored=torch.tensor(scored)) == pytest.approx(mean, abs=1e-7)
    assert math.isnan(kl_bits(base, now, scored=torch.zeros(3, dtype=torch.bool)))
    # An output that the base allows is now impossible.
    assert kl_bits(now, base, scored=torch.tensor([False, False, True])) == math.inf
    assert math.isnan(kl_bits(torch.full((1, 2), math.nan), torch.zeros(1, 2), scored=torch.ones(1, dtype=torch.bool)))


def test_a_small_drift_is_not_lost_in_rounding():
    """KL of p and p + e d is e^2 / 2 sum d^2 / p nats to second order: 1e-12 here, where fp32 gives
    noise."""
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 50, dtype=torch.float64)
    step = torch.randn(3, 5, 50, dtype=torch.float64)
    p = logits.softmax(-1)
    spread = (p * step.square()).sum(-1) - (p * step).sum(-1).square()
    expected = 0.5e-12 * float(spread.mean()) / math.log(2)
    everywhere = torch.ones(3, 5, dtype=torch.bool)
    assert kl_bits(logits, logits + 1e-6 * step, scored=everywhere) == pytest.approx(expected, rel=1e-3)


@given(arrays(np.float64, (2, 4, 6), elements=st.floats(-50, 50)), st.floats(-100, 100))
def test_kl_agrees_with_torch_is_never_negative_and_ignores_a_shift_of_logits(logits, shift):
    base, now = torch.from_numpy(logits)
    everywhere = torch.ones(4, dtype=torch.bool)
    divergence = kl_bits(base, now, scored=everywhere)
    nats = nn.functional.kl_div(now.log_softmax(-1), base.log_softmax(-1), reduction="batchmean", log_target=True)
    assert divergence == pytest.approx(float(nats) / math.log(2), rel=1e-6, abs=1e-12)
    assert divergence >= 0
    assert kl_bits(base, base + shift, scored=everywhere) == pytest.approx(0, abs=1e-12)
    # An output that competes in neither model adds nothing.
    masked = torch.full((4, 1), -math.inf, dtype=torch.float64)
    wider = [torch.cat([x, masked], dim=-1) for x in (base, now)]
    assert kl_bits(*wider, scored=everywhere) == pytest.approx(divergence, rel=1e-9, abs=1e-12)
