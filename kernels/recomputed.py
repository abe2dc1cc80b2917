"""A kernel that has no backward pass of its own, made differentiable through its torch form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Outputs = tuple[Tensor, ...]
Operation = Callable[..., Outputs]


class Recomputed(torch.autograd.Function):
    """The values of `kernel` with the gradients of `form`: the backward pass runs `form` again.

    `kernel` and `form` take the same tensors in the same order. Only the inputs are saved.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Operation, form: Operation, *inputs: Tensor) -> Outputs:
        kind = inputs[0].device.type
        # The backward pass may run outside the autocast region of the forward pass: `form` must
        # nevertheless see the same dtypes.
        ctx.form, ctx.cast = form, (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        ctx.save_for_backward(*inputs)
        # Triton launches on the current device, which need not be that of the tensors.
        with torch.cuda.device_of(inputs[0]):
            return kernel(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # The first two arguments are the functions themselves.
        needed = ctx.needs_input_grad[2:]
        inputs = [x.detach().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
        kind, dtype, enabled = ctx.cast
        with torch.enable_grad(), torch.autocast(kind, dtype=dtype, enabled=enabled):
            outputs = ctx.form(*inputs)
        # An output may depend on no input that wants a gradient, and autograd refuses such outputs.
        live = [n for n, x in enumerate(outputs) if x.requires_grad]
        leaves = [x for x in inputs if x.requires_grad]
        gradients = iter(
            torch.autograd.grad([outputs[n] for n in live], leaves, [grads[n] for n in live], allow_unused=True)
        )
        return None, None, *(next(gradients) if need else None for need in needed)
