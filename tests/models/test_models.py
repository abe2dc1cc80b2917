"""The model's parts against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from ttt.models.nano import Nano, attend, rope_tables, rotate


def qkv(seed, batch=2, heads=2, length=13, width=4):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, heads, length, width, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(3)
    ]


def plainly(q, k, v, *, window, segment_BA):
    """Attend with a T x T mask, by the definition."""
    length = q.shape[2]
    ago_TT = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    seen_BTT = ((ago_TT >= 0) & (ago_TT < (window or length)))[None].expand(q.shape[0], -1, -1)
    if segment_BA is not None:
        seen_BTT = seen_BTT & (segment_BA[:, :, None] == segment_BA[:, None, :])
    score = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    return score.masked_fill(~seen_BTT[:, None], float("-inf")).softmax(-1) @ v


@given(
    length=st.integers(1, 20),
    window=st.none() | st.integers(1, 20),
    packed=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_attention_in_blocks_is_attention(length, window, packed, seed):
    q, k, v = inputs = qkv(seed, length=length)
    segment_BT = torch.arange(length).div(3, rounding_mode="floor").expand(2, -1) if packed else None
    outcomes = []
    for form in (attend, plainly):
        for x in inputs:
            x.grad = None
        out = form(q, k, v, window=window, segment_BA=segment_BT)
        out.square().sum().backward()
        outcomes.append([out, *(x.grad.clone() for x in inputs)])
    for got, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_window_does_not_cost_a_full_one():
    """The number of operations grows with T and not with T * T."""

    def operations(length, window):
        with FlopCounterMode(display=False) as counter:
            attend(*qkv(0, length=length), window=window, segment_BA=None)
        return counter.get_total_flops()

    assert operations(512, 32) == 2 * operations(256, 32)
    # Full attention takes two products of T x T x K for each of 2 rows and 2 heads.
    assert operations(512, 32) < 2 * (2 * 512 * 512 * 4) * 4 / 4


def test_rope_depends_on_distances_only():
    rope = rope_tables(torch.arange(20), width=8, base=100.0)
    q, k = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)

    def score(i, j):
        rotated = [rotate(x.expand(1, 1, 20, 8), rope)[0, 0] for x in (q, k)]
        return rotated[0][i] @ rotated[1][j]

    torch.testing.assert_close(score(3, 1), score(19, 17), rtol=1e-5, atol=1e-5)
    assert (score(3, 1) - score(3, 2)).abs() > 1e-3


@pytest.mark.parametrize("window", [None, 4])
def test_a_fresh_model_predicts_uniformly_and_sees_no_future(window):
    torch.manual_seed(0)
    model = Nano(
        name="nano", vocab_size=50, seq_len=12, layers=2, width=16, heads=2, mlp_width=24,
        window=window, rope_base=10000.0,
    )  # fmt: skip
    tokens_BT = torch.randint(50, (4, 12))
    logits_BTV = model(tokens_BT)
    loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), torch.randint(50, (48,)))
    assert loss.item() == pytest.approx(torch.tensor(50.0).log().item(), abs=0.05)
    other_BT = tokens_BT.clone()
    other_BT[:, 7] = (other_BT[:, 7] + 1) % 50
    assert torch.equal(model(other_BT)[:, :7], logits_BTV[:, :7])
