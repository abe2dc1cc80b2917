"""The writes of the in-place memory: steps that depend on it, convolution in chunks, key norms."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Draws, assert_same, leaf, memory_inputs, outcome, weighted
from torch import Tensor

from ttt.kernels.inplace.rows import neighbours, row_norm
from ttt.kernels.inplace.steps import ChunkUpdates, inplace_steps
from ttt.kernels.inplace.steps_naive import inplace_steps_naive

SIZES = st.integers(min_value=1, max_value=5)


@given(b=SIZES, n=st.integers(1, 12), c=SIZES, pull=st.booleans(), limit=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_steps_equal_the_definition(b, n, c, pull, limit, seed):
    """Try error correction, momentum, clipping, chunks that are not full, and many groups."""
    draws, inputs = Draws(seed), memory_inputs(seed, b, n, c, 3, 2)
    bound = torch.tensor(1.5, dtype=torch.float64) if limit else None
    full_BN, hold_BN = draws.flag(b, n, share=0.7), draws.flag(b, n, share=0.8).double()
    updates = ChunkUpdates(inputs.pop("gate_BN"), hold_BN, full_BN, 0.6, bound)
    start_BDF = inputs.pop("state_BDF")
    inputs["state"] = (start_BDF, start_BDF / 2)
    if pull:
        inputs["pull_BNC"] = draws.uniform(b, n, c) / 4

    def run(form):
        def with_updates(q_BNCF: Tensor, *, pull_BNC: Tensor | None = None, **others):
            return form(q_BNCF, pull_BNC=pull_BNC, updates=updates, **others)

        return outcome(with_updates, inputs)

    assert_same(run(inplace_steps), run(inplace_steps_naive))


@given(n=SIZES, c=st.integers(1, 7), d=SIZES, taps=st.sampled_from([1, 3, 5]), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_the_convolution_stays_in_its_chunk(n, c, d, taps, seed):
    draws = Draws(seed)
    x_NCD, conv_OD = leaf(draws.normal(n, c, d)), leaf(draws.normal(taps, d))
    plain_NCD = torch.nn.functional.conv1d(x_NCD.mT, conv_OD.T[:, None], padding=taps // 2, groups=d).mT
    assert_same_with_gradients(neighbours(x_NCD, conv_OD), plain_NCD, [x_NCD, conv_OD])


def test_row_norm_is_the_norm():
    x_NCF = leaf(Draws(0).normal(3, 4, 5))
    assert_same_with_gradients(row_norm(x_NCF), x_NCF.norm(dim=-1, keepdim=True), [x_NCF])
    zeros_NCF = torch.zeros(1, 2, 3, requires_grad=True)
    row_norm(zeros_NCF).sum().backward()
    assert not zeros_NCF.grad.any()
    assert row_norm(x_NCF.bfloat16()).dtype == torch.float32


def assert_same_with_gradients(got: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    got_all, expected_all = ([x, *torch.autograd.grad(weighted([x]), inputs)] for x in (got, expected))
    assert_same(got_all, expected_all)
