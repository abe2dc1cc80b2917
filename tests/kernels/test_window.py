"""Windowed attention: the pass that is written out against autograd's, and against fp64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt.kernels.attention.blocks import attend_blocks, seen_in_blocks
from ttt.kernels.attention.window import attend_window


def qkv(*, length, back=0, dtype=torch.float32, batch=2, heads=2, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        x = torch.randn(batch, heads, count, width, generator=generator, dtype=torch.float64)
        return x.to(dtype).requires_grad_()

    return draw(length), draw(back + length), draw(back + length)


def by_autograd(q, k, v, *, window, segment_BA):
    seen = seen_in_blocks(segment_BA, keys=k.shape[2], length=q.shape[2], window=window, device=q.device)
    return attend_blocks(q, k, v, seen)


def outcome(form, inputs, *, window, segment_BA):
    out = form(*inputs, window=window, segment_BA=segment_BA)
    weights = torch.arange(out.numel(), dtype=torch.float64).view_as(out).sin().to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


@given(length=st.integers(1, 20), window=st.integers(1, 9), back=st.integers(0, 8), packed=st.booleans())
@settings(max_examples=80, deadline=None)
def test_it_equals_autograd(length, window, back, packed):
    back = min(back, window - 1)
    inputs = qkv(length=length, back=back, dtype=torch.float64)
    # Documents of three tokens, and padding at the end of the second row.
    segment_BA = torch.arange(back + length).div(3, rounding_mode="floor").repeat(2, 1) if packed else None
    if packed:
        segment_BA[1, -2:] = -1
    got, expected = (
        outcome(form, inputs, window=window, segment_BA=segment_BA) for form in (attend_window, by_autograd)
    )
    torch.testing.assert_close(got, expected)


def test_gradients_and_their_gradients():
    inputs = qkv(length=7, back=2, dtype=torch.float64, batch=1)
    segment_BA = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1]])

    def form(q, k, v):
        return attend_window(q, k, v, window=3, segment_BA=segment_BA)

    assert torch.autograd.gradcheck(form, inputs)
    assert torch.autograd.gradgradcheck(form, inputs)


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_half_precision_rounds_no_scores(spread):
    """Scores of several units are where rounding them to bf16 would cost percents."""
    exact = [spread * x for x in qkv(length=64, dtype=torch.float64, width=24)]
    half = [x.detach().bfloat16().requires_grad_() for x in exact]
    exact = [x.detach().double().requires_grad_() for x in half]
    with torch.autocast("cpu", torch.bfloat16):
        got = outcome(attend_window, half, window=16, segment_BA=None)
    expected = outcome(attend_window, exact, window=16, segment_BA=None)
    for x, y in zip(got, expected, strict=True):
        assert x.dtype == torch.bfloat16
        assert (x.double() - y).norm() / y.norm() < 0.01


def test_functional_gradients_pass_through():
    q, k, v = inputs = qkv(length=5, dtype=torch.float64)

    def loss(q):
        return attend_window(q, k, v, window=2, segment_BA=None).square().sum()

    (expected,) = torch.autograd.grad(loss(q), [q])
    torch.testing.assert_close(torch.func.grad(loss)(inputs[0].detach()), expected)


def test_a_pass_that_does_not_learn_keeps_nothing():
    q, k, v = (x.detach() for x in qkv(length=8))
    assert attend_window(q, k, v, window=4, segment_BA=None).grad_fn is None
