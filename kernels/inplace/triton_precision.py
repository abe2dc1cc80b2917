"""What the Triton kernels of the in-place memory share: precisions and sizes of tiles."""
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"

from __future__ import annotations

import torch
import triton.language as tl

# The longest side of a tile, for 16-bit inputs and for full precision: sums of 128 by 128 take 64
# registers of a thread; in full precision, factors take the rest.
HALF, FULL = 128, 64


def longest_side(dtype: torch.dtype) -> int:
    """Return the longest side of a tile for inputs of this dtype."""
    return FULL if dtype == torch.float32 else HALF


def warps(rows: int, columns: int) -> int:
    """Return how many warps share a tile of sums."""
    return 8 if rows * columns > 64 * 64 else 4


def factor_types(dtype: torch.dtype, *, on_gpu: bool) -> tuple[tl.dtype, tl.dtype]:
    """Return the type to which factors are rounded, and the type that is multiplied."""
    thin = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[dtype]
    # The interpreter cannot multiply bf16: fp32 holds the same numbers.
    return thin, thin if on_gpu else tl.float32
