"""The writes of the in-place memory: steps that depend on it, convolution in chunks, key norms."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Draws, assert_same, leaf, memory_inputs, outcome, weighted
from torch import Tensor

from ttt.kernels.inplace.norms import row_scale, spectral_norm
from ttt.kernels.inplace.ridge import ridge_write
from ttt.kernels.inplace.rows import neighbours, row_norm
from ttt.kernels.inplace.steps import ChunkUpdates, RowNorms, inplace_steps
from ttt.kernels.inplace.steps_naive import inplace_steps_naive, spectral_norm_naive

SIZES = st.integers(min_value=1, max_value=5)


@given(
    b=st.integers(1, 3),
    n=st.integers(1, 12),
    c=SIZES,
    pull=st.booleans(),
    limit=st.booleans(),
    write=st.sampled_from(["sum", "sum", "ridge", "spectral"]),
    rows=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_steps_equal_the_definition(b, n, c, pull, limit, write, rows, seed):
    """Try error correction, momentum, clipping, fits, norms, chunks that are not full, many groups."""
    draws, inputs = Draws(seed), memory_inputs(seed, b, n, c, 3, 2)
    bound = torch.tensor(1.5, dtype=torch.float64) if limit else None
    full_BN, hold_BN = draws.flag(b, n, share=0.7), draws.flag(b, n, share=0.8).double()
    kind = {"ridge": 0.5 if write == "ridge" else None, "spectral": write == "spectral"}
    updates = ChunkUpdates(inputs.pop("gate_BN"), hold_BN, full_BN, 0.6, bound, **kind)
    inputs["size"] = draws.uniform(1)
    if rows:
        inputs["rows"] = RowNorms(draws.normal(2, 3), draws.normal(b, n, c, 2))
    start_BDF = inputs.pop("state_BDF")
    inputs["state"] = (start_BDF, start_BDF / 2)
    if pull:
        inputs["pull_BNC"] = draws.uniform(b, n, c) / 4

    def run(form):
        def with_updates(q_BNCF: Tensor, *, size: Tensor, pull_BNC: Tensor | None = None, **others):
            return form(q_BNCF, pull_BNC=pull_BNC, updates=updates._replace(size=size), **others)

        return outcome(with_updates, inputs)

    assert_same(run(inplace_steps), run(inplace_steps_naive))


@given(c=st.integers(1, 6), f=SIZES, d=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_ridge_write_is_the_minimum(c, f, d, seed):
    """Both systems give the D with (D K^T - E^T) K + lambda D = 0, where the loss has no slope."""
    draws = Draws(seed)
    k_CF, error_CD = draws.normal(c, f), draws.normal(c, d)
    fit_DF = ridge_write(k_CF[None], error_CD[None], 0.3)[0]
    torch.testing.assert_close((fit_DF @ k_CF.T - error_CD.T) @ k_CF, -0.3 * fit_DF, rtol=1e-9, atol=1e-9)
    # A token whose key and error are zero takes no part.
    padded = [torch.cat([x, torch.zeros_like(x[:1])])[None] for x in (k_CF, error_CD)]
    torch.testing.assert_close(ridge_write(*padded, 0.3)[0], fit_DF)


def test_the_spectral_norm_of_a_write():
    draws = Draws(3)
    v_NCD, k_NCF = leaf(draws.normal(2, 6, 4)), leaf(draws.normal(2, 6, 5))
    naive = torch.stack([spectral_norm_naive(v_CD.T @ k_CF) for v_CD, k_CF in zip(v_NCD, k_NCF, strict=True)])
    assert_same_with_gradients(spectral_norm(v_NCD, k_NCF), naive.view(2, 1, 1), [v_NCD, k_NCF])
    # Of a write of rank one, a single iteration finds it.
    v_1D, k_1F = draws.normal(1, 4), draws.normal(1, 5)
    torch.testing.assert_close(spectral_norm(v_1D, k_1F).squeeze(), v_1D.norm() * k_1F.norm())


def test_rows_keep_their_norm():
    draws = Draws(4)
    weight_DF, state_BDF = draws.normal(3, 5), draws.normal(2, 3, 5)
    scaled_BDF = row_scale(weight_DF, state_BDF)[..., None] * (weight_DF + state_BDF)
    torch.testing.assert_close(scaled_BDF.norm(dim=-1), weight_DF.norm(dim=-1).expand(2, 3))
    weight_DF[1] = 0
    nothing_BD = row_scale(weight_DF, torch.zeros_like(state_BDF))
    assert torch.equal(nothing_BD[:, [0, 2]], torch.ones(2, 2).double())


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
