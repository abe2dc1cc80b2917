"""Where the tests of Triton kernels run, their inputs, and the kernels as forms."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch
from kernel_cases import Draws, assert_same, delta_inputs, memory_inputs
from torch import Tensor

from ttt.kernels.inplace.rows import targets_torch

INSTALLED = find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
outside = pytest.mark.skipif(INTERPRETED, reason="starts a process of its own")
installed = pytest.mark.skipif(not INSTALLED, reason="triton is not installed")
kernels = pytest.mark.skipif(not (INSTALLED and (INTERPRETED or DEVICE == "cuda")), reason="no GPU, no interpreter")

# Tolerance relative to the largest number of a tensor.
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    assert_same([got.double()], [expected.double()], rtol=tolerance)


def placed(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return inputs on the device: tokens in `dtype`; gates, rates, weights and states in fp32."""
    tokens = ("q_", "k_", "v_", "x_")
    return {name: x.to(DEVICE, dtype if name.startswith(tokens) else torch.float32) for name, x in inputs.items()}


def exact(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same numbers in fp32."""
    return {name: x.float() for name, x in inputs.items()}


def delta_case(seed: int, t: int, k: int, v: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return placed(delta_inputs(seed, 2, t, k, v), dtype)


def memory_case(seed: int, n: int, c: int, f: int, d: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return placed(memory_inputs(seed, 2, n, c, f, d), dtype)


def target_case(taps: int, dtype: torch.dtype, c: int = 3, d: int = 24) -> dict[str, Tensor]:
    draws = Draws(taps)
    inputs = {
        "x_BNCD": draws.normal(2, 5, c, d),
        "conv_OD": draws.normal(taps, d),
        "target_DD": draws.normal(d, d) / d**0.5,
        # One row of sizes for all lanes, as where every row is one document.
        "scale_BNC1": draws.rate(1, 5, c, 1),
    }
    return placed(inputs, dtype)


# Triton must not be imported before a test asks for it.
def delta_kernel(q_BTK: Tensor, **others: Tensor):
    from ttt.kernels.delta.triton import delta_triton

    return delta_triton(q_BTK, **others)


def inplace_kernel(q_BNCF: Tensor, **others):
    from ttt.kernels.inplace.triton_states import inplace_triton

    return inplace_triton(q_BNCF, **others)


def targets_kernel(x_BNCD: Tensor, **others: Tensor) -> list[Tensor]:
    from ttt.kernels.inplace.triton_targets import targets_triton

    return [targets_triton(x_BNCD, **others)]


def targets_form(x_BNCD: Tensor, **others: Tensor) -> list[Tensor]:
    return [targets_torch(x_BNCD, **others)]
