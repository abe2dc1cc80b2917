"""Windowed attention with its backward pass written out, for fewer passes over memory.

    P = softmax(Q K^T / sqrt(K) + mask)        O = P V
    dV = P^T dO      dS = P * (dP - rowsum(P * dP)),  dP = dO V^T      dQ = dS K      dK = dS^T Q

Blocks, pairs of blocks and masks are those of kernels/attention/blocks.py; the operations and
their order too: in fp32 both forms round alike, up to the order inside a product. Of half-precision
inputs the scores are computed in fp32; P, dP and dS are rounded, as flash attention rounds P and
dS.
Shapes: B batch, H heads, T queries, A keys, K head width, G blocks, Y = B H G, W window, X = 2 W.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.kernels.attention.blocks import attend_blocks, seen_in_blocks
from ttt.kernels.states import state_dtype


def attend_window(q_BHTK: Tensor, k_BHAK: Tensor, v_BHAK: Tensor, *, window: int, segment_BA: Tensor | None) -> Tensor:
    """Attend causally within a document: token t sees tokens t - window + 1 .. t.

    Queries are those of the last T tokens; fewer than `window` stand before them.
    """
    length, keys = q_BHTK.shape[2], k_BHAK.shape[2]
    seen_BGWX = seen_in_blocks(segment_BA, keys=keys, length=length, window=window, device=q_BHTK.device)
    return _Window.apply(q_BHTK, k_BHAK, v_BHAK, seen_BGWX)[0]


class _Window(torch.autograd.Function):
    """Returns O, and what the backward pass needs: Q and K times the root, in fp32; V and P."""

    @staticmethod
    def forward(q_BHTK: Tensor, k_BHAK: Tensor, v_BHAK: Tensor, seen_BGWX: Tensor) -> tuple[Tensor, ...]:
        outer, length, low, full = q_BHTK.shape[:2], q_BHTK.shape[2], q_BHTK.dtype, state_dtype(q_BHTK)
        window, back = seen_BGWX.shape[2], k_BHAK.shape[2] - length
        # The root on both sides, as torch has it: products of half precision cannot overflow.
        root = q_BHTK.shape[-1] ** -0.25
        q_YWK = _blocks(q_BHTK, window=window).to(full).mul(root).flatten(0, 2)
        k_YXK = _pairs(k_BHAK, window=window, back=back, dtype=full).mul_(root)
        v_YXK = _pairs(v_BHAK, window=window, back=back, dtype=low)
        mask_BGWX = torch.zeros_like(seen_BGWX, dtype=full).masked_fill_(~seen_BGWX, float("-inf"))
        # A bf16 autocast would round the scores.
        with torch.autocast(q_BHTK.device.type, enabled=False):
            score_YWX = torch.bmm(q_YWK, k_YXK.mT)
            score_YWX.unflatten(0, (*outer, -1)).add_(mask_BGWX[:, None])
            p_YWX = torch.softmax(score_YWX, -1).to(low)
            out_BHGK = torch.bmm(p_YWX, v_YXK).view(*outer, -1, v_BHAK.shape[-1])
        return out_BHGK[:, :, :length], q_YWK, k_YXK, v_YXK, p_YWX

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_BHTK: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_BHTK is None:
            return None, None, None, None
        *inputs, seen_BGWX, q_YWK, k_YXK, v_YXK, p_YWX = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Second derivatives: autograd takes what was saved for constant, so it gets the inputs.
            needed = ctx.needs_input_grad
            wanted = [x for x, need in zip(inputs, needed, strict=False) if need]
            q_BHTK, k_BHAK, v_BHAK = inputs
            out_BHTK = attend_blocks(q_BHTK, k_BHAK, v_BHAK, seen_BGWX)
            grads = iter(torch.autograd.grad(out_BHTK, wanted, grad_BHTK, create_graph=True))
            return tuple(next(grads) if need else None for need in needed)
        (*outer, length, width), keys = inputs[0].shape, inputs[1].shape[2]
        root, back, low = width**-0.25, keys - length, p_YWX.dtype
        grad_YWK = _blocks(grad_BHTK, window=seen_BGWX.shape[2]).flatten(0, 2)
        dp_YWX = torch.bmm(grad_YWK, v_YXK.mT)
        ds_YWX = torch._softmax_backward_data(dp_YWX, p_YWX, -1, low)
        dq_BHGK = torch.bmm(ds_YWX, k_YXK.to(low)).mul_(root).view(*outer, -1, width)
        pairs = torch.bmm(ds_YWX.mT, q_YWK.to(low)).mul_(root), torch.bmm(p_YWX.mT, grad_YWK)
        return dq_BHGK[:, :, :length], *(_fold(x, outer=outer, keys=keys, back=back) for x in pairs), None


def _blocks(x_BHTK: Tensor, *, window: int, first: int = 0) -> Tensor:
    """Return [B, H, G, W, K], with `first` zeros before the tokens; zeros fill the last block."""
    tail = -(first + x_BHTK.shape[2]) % window
    padded = F.pad(x_BHTK, (0, 0, first, tail)) if first or tail else x_BHTK
    return padded.unflatten(2, (-1, window))


def _pairs(x_BHAK: Tensor, *, window: int, back: int, dtype: torch.dtype) -> Tensor:
    """Each block of keys or values behind the block before it, [Y, 2W, K]."""
    # With nothing before the tokens, the first block stands behind zeros, without a padded copy.
    block_BHGWK = _blocks(x_BHAK, window=window, first=window - back if back else 0)
    own_BHGWK = block_BHGWK[:, :, 1:] if back else block_BHGWK
    batch, heads, blocks, _, width = own_BHGWK.shape
    pair_BHGXK = x_BHAK.new_empty(batch, heads, blocks, 2 * window, width, dtype=dtype)
    pair_BHGXK[..., window:, :] = own_BHGWK
    if back:
        pair_BHGXK[..., :window, :] = block_BHGWK[:, :, :-1]
    else:
        pair_BHGXK[:, :, 0, :window] = 0
        pair_BHGXK[:, :, 1:, :window] = block_BHGWK[:, :, :-1]
    return pair_BHGXK.flatten(0, 2)


def _fold(x_YXK: Tensor, *, outer: list[int], keys: int, back: int) -> Tensor:
    """Sum up what the blocks of `_pairs` say of each key: its inverse for gradients."""
    window = x_YXK.shape[1] // 2
    pair_BHGXK = x_YXK.unflatten(0, (*outer, -1))
    sum_BHGWK = F.pad(pair_BHGXK[..., window:, :], (0, 0, 0, 0, 1, 0))
    sum_BHGWK[:, :, :-1] += pair_BHGXK[..., :window, :]
    return sum_BHGWK.flatten(2, 3)[:, :, window - back :][:, :, :keys]
