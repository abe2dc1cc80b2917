"""The Triton kernels of the in-place memory against the definition and the torch forms.

They run on a GPU, or in Triton's interpreter (test_triton.py starts them there).
"""

from __future__ import annotations

import pytest
import torch
from kernel_cases import call, outcome
from triton_cases import (
    CLOSE,
    DEVICE,
    close,
    exact,
    inplace_kernel,
    kernels,
    memory_case,
    target_case,
    targets_form,
    targets_kernel,
)

from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.naive import inplace_naive

pytestmark = kernels


@pytest.mark.parametrize(("f", "d", "block"), [(16, 3, 1), (24, 16, 2), (140, 24, 1), (3, 70, 3)])
@pytest.mark.parametrize("dtype", CLOSE)
def test_inplace_equals_the_definition(f, d, block, dtype, monkeypatch):
    inputs = memory_case(f, 7, 3, f, d, dtype)
    read, last = call(inplace_kernel, inputs, block=block)
    exact_read, exact_last = call(inplace_naive, exact(inputs))
    assert read.dtype == dtype
    assert last.dtype == torch.float32
    close(read, exact_read, CLOSE[dtype])
    # In blocks of one chunk, products of bf16 are exact in fp32, and nothing is rounded after them.
    close(last, exact_last, 1e-5 if block == 1 else CLOSE[dtype])
    # One block at a time.
    monkeypatch.setattr("ttt.kernels.inplace.triton_states.STATES_BYTES", 1)
    again = call(inplace_kernel, inputs, block=block)
    assert torch.equal(again[1], last)
    # Reads are torch's products, whose last bit may depend on the size of a batch.
    close(again[0], read, CLOSE[dtype])


@pytest.mark.parametrize("learned", [set(memory_case(0, 1, 1, 1, 1)), {"k_BNCF", "v_BNCD"}], ids=len)
def test_inplace_has_the_torch_forms_gradients(learned):
    inputs = memory_case(0, 5, 3, 24, 16)
    # One row of gates for all lanes.
    inputs["gate_BN"] = inputs["gate_BN"][:1]
    outcomes = [outcome(form, inputs, learned=learned) for form in (inplace_kernel, inplace_lean)]
    for got, expected in zip(*outcomes, strict=True):
        close(got, expected, 1e-5)


@pytest.mark.parametrize(("c", "d", "taps"), [(1, 3, 5), (3, 24, 3), (7, 140, 5), (3, 16, 1)])
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("mixed", [False, True])
def test_targets_equal_the_torch_form(c, d, taps, dtype, mixed):
    inputs = target_case(taps, dtype, c, d)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=mixed):
        (expected,), (got,) = call(targets_form, inputs), call(targets_kernel, inputs)
    assert got.dtype == expected.dtype
    close(got, expected, CLOSE[torch.bfloat16 if mixed else dtype])


def test_targets_have_the_torch_forms_gradients():
    inputs = target_case(5, torch.float32)
    outcomes = [outcome(form, inputs) for form in (targets_kernel, targets_form)]
    for got, expected in zip(*outcomes, strict=True):
        close(got, expected, 1e-5)
