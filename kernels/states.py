"""What kernels carry from chunk to chunk: state matrices, or a small network for each lane.

Shapes: B batch (lanes), N chunks, X any width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# What was read, and the state after the last token.
ReadAndState = tuple[Tensor, Tensor]
# The tensors of a network by name; the first dimension of each is the lane.
Weights = dict[str, Tensor]


def state_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of states for inputs like `x`: fp32, or fp64 for fp64 inputs."""
    # A state sums up thousands of small writes: in half precision the late ones would round to 0.
    return torch.promote_types(x.dtype, torch.float32)


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    """Return the weights in another dtype."""
    return {name: w.to(dtype) for name, w in weights.items()}


def zeros_of(weights: Weights) -> Weights:
    """Return zeros in the shapes of the weights."""
    return {name: torch.zeros_like(w) for name, w in weights.items()}


def lane_of(weights: Weights, lane: int) -> Weights:
    """Return the weights of one lane, without the lane dimension."""
    return {name: w[lane] for name, w in weights.items()}


def stack_lanes(lanes: Sequence[Weights]) -> Weights:
    """Stack the weights of single lanes: the inverse of `lane_of`."""
    return {name: torch.stack([weights[name] for weights in lanes]) for name in lanes[0]}


def lane_masks(mask_BN: Tensor) -> list[Tensor | bool]:
    """Return a mask [B] for each chunk, or a plain bool where all lanes agree."""
    # Two transfers for all chunks: asking the device in every chunk would stall it each time.
    some, every = mask_BN.any(0).tolist(), mask_BN.all(0).tolist()
    return [mask_B if some[n] and not every[n] else some[n] for n, mask_B in enumerate(mask_BN.unbind(1))]


def select(mask_B: Tensor | bool, yes: Weights, no: Weights) -> Weights:
    """Return `yes` for the lanes where the mask holds, else `no`."""
    if isinstance(mask_B, bool):
        return yes if mask_B else no
    return {name: torch.where(mask_B.view(-1, *(1,) * (w.dim() - 1)), yes[name], w) for name, w in no.items()}
