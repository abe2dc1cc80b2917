"""The fast forms of the in-place memory agree with the definition, gradients included."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import assert_same, call, cast, leaf, memory_inputs, outcome
from torch import Tensor

from ttt.kernels.inplace.choice import cheapest
from ttt.kernels.inplace.dual import inplace_dual
from ttt.kernels.inplace.gates import group_size
from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.naive import inplace_naive
from ttt.kernels.inplace.scan import inplace_scan

SIZES = st.integers(min_value=1, max_value=5)


def close(got: list[Tensor], expected: list[Tensor]) -> None:
    """Compare to fp32, because the states of the definition are fp32."""
    assert_same(got, expected, rtol=1e-4, check_dtype=False)


def with_w0(form):
    """Return a form that reads W0 beside a form without it."""

    def run(q_BNCF: Tensor, *, weight_DF: Tensor, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        read, last = form(q_BNCF, **inputs)
        return read + q_BNCF @ weight_DF.T, last

    return run


def w0_inputs(seed: int, b: int, n: int, c: int, *, fp32: bool) -> dict[str, Tensor]:
    """Return inputs with W0.

    An fp32 state under float64 tokens takes the batched way of half precision.
    """
    inputs = memory_inputs(seed, b, n, c, 3, 4)
    inputs["weight_DF"] = memory_inputs(seed + 1, 1, 1, 1, 3, 4)["state_BDF"][0]
    if fp32:
        inputs["state_BDF"] = inputs["state_BDF"].float()
    return inputs


@given(b=SIZES, n=SIZES, c=SIZES, f=SIZES, d=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_fast_forms_equal_the_definition(b, n, c, f, d, seed):
    inputs = memory_inputs(seed, b, n, c, f, d)
    expected = outcome(inplace_naive, inputs)
    for form in (inplace_scan, inplace_dual):
        close(outcome(form, inputs), expected)


@given(
    b=SIZES,
    n=st.integers(1, 25),
    c=SIZES,
    block=st.integers(1, 6),
    shared=st.booleans(),
    fp32=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_lean_form_equals_the_definition(b, n, c, block, shared, fp32, seed):
    """Try blocks of every size, W0 read with the state or apart, shared gates and many groups."""
    inputs = w0_inputs(seed, b, n, c, fp32=fp32)
    if shared:
        inputs["gate_BN"] = inputs["gate_BN"][:1]
    # Gates with a gradient are tensors, as on a GPU, and no plain numbers.
    expected = outcome(with_w0(inplace_naive), inputs)
    close(outcome(with_w0(partial(inplace_lean, block=block)), inputs), expected)
    close(outcome(inplace_lean, inputs), expected)


@given(
    n=st.integers(1, 25),
    block=st.integers(1, 6),
    lanes=st.integers(1, 2),
    folded=st.booleans(),
    fp32=st.booleans(),
    tokens=st.sampled_from([2, 5]),
    loss=st.sampled_from([(0, 1), (0,), (1,)]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_lean_form_with_queries_as_keys_and_fixed_gates(n, block, lanes, folded, fp32, tokens, loss, seed):
    """As the adapter calls it: fixed gates, queries as keys, losses that skip the last state."""
    inputs = w0_inputs(seed, 2, n, tokens, fp32=fp32)
    gate_BN = inputs.pop("gate_BN")[:lanes]
    del inputs["k_BNCF"]

    def tied(form):
        def run(q_BNCF: Tensor, **others: Tensor) -> list[Tensor]:
            outputs = form(q_BNCF, k_BNCF=q_BNCF, gate_BN=gate_BN, **others)
            return [outputs[part] for part in loss]

        return run

    lean = inplace_lean if folded else with_w0(partial(inplace_lean, block=block))
    close(outcome(tied(lean), inputs), outcome(tied(with_w0(inplace_naive)), inputs))


@pytest.mark.parametrize(("chunks", "block"), [(3, 1), (11, 1), (7, 3)])
def test_the_backward_pass_written_by_hand_is_the_derivative(chunks, block):
    """Compare with finite differences in float64."""
    inputs = memory_inputs(5, 2, chunks, 2, 3, 2)
    # After a gate of exactly 0, the state before it would drop out of the check.
    inputs["gate_BN"] = 0.3 + 0.7 * inputs["gate_BN"]

    def run(*values: Tensor) -> tuple[Tensor, Tensor]:
        return call(inplace_lean, dict(zip(inputs, values, strict=True)), block=block)

    assert torch.autograd.gradcheck(run, tuple(leaf(x) for x in inputs.values()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_lean_form_keeps_few_states(dtype):
    """The backward pass saves a few states, not one per chunk."""
    chunks = 64
    inputs = cast(memory_inputs(0, 1, chunks, 1, 16, 16), dtype)
    inputs["v_BNCD"].requires_grad_()
    read, _ = call(inplace_lean, inputs)
    states = [x for x in read.grad_fn.saved_tensors if x is not None and x.shape == (1, 16, 16)]
    assert len(states) == chunks // group_size(chunks) == 8


def test_the_cost_model_picks_what_was_measured_to_be_quickest():
    """Rows are sizes of `ttt-bench kernels` and the block that is quickest in half precision."""
    for chunks, chunk, width, mlp_width, block in (
        (8, 32, 96, 256, 8),
        (32, 64, 256, 688, 6),
        (16, 128, 512, 1536, 5),
        (64, 128, 128, 384, 1),
        (1, 32, 96, 256, 1),
    ):
        size = {"chunk": chunk, "width": width, "mlp_width": mlp_width}
        choice = cheapest(chunks, **size, dtype=torch.bfloat16)
        assert (choice.block, choice.folded) == (block, False)
        choice = cheapest(chunks, **size, dtype=torch.float32)
        assert (choice.block, choice.folded) == (1, True)


def test_state_stays_fp32_under_bf16_inputs():
    inputs = cast(memory_inputs(0, 2, 3, 4, 5, 3), torch.bfloat16)
    for form in (inplace_naive, inplace_scan, inplace_dual, inplace_lean, partial(inplace_lean, block=2)):
        assert call(form, inputs)[1].dtype == torch.float32
