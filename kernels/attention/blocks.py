"""Windowed attention in blocks of `window` queries, in time T * 2W instead of T * T.

A query of a block sees at most `window` tokens back: into the block before (zeros where nothing is)
and its own. Queries are those of the last T of A tokens; `back` = A - T tokens stand before them.
Shapes: B batch, H heads, T queries, A keys, K head width, G blocks, W window, X = 2 W.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def attend_blocks(q_BHTK: Tensor, k_BHAK: Tensor, v_BHAK: Tensor, seen_BGWX: Tensor) -> Tensor:
    """Attend in autograd's own operations: what kernels/attention/window.py has to equal."""
    length, window = q_BHTK.shape[2], seen_BGWX.shape[2]
    back, tail = k_BHAK.shape[2] - length, -length % window
    q_BHGWK = F.pad(q_BHTK, (0, 0, 0, tail)).unflatten(2, (-1, window))
    k_BHGXK, v_BHGXK = (_pairs(x, window=window, back=back, tail=tail) for x in (k_BHAK, v_BHAK))
    # The flash kernel is built for long rows; on these short ones the plain form is twice as fast
    # on a CPU.
    with sdpa_kernel(SDPBackend.MATH):
        out_BHGWK = F.scaled_dot_product_attention(q_BHGWK, k_BHGXK, v_BHGXK, attn_mask=seen_BGWX[:, None])
    return out_BHGWK.flatten(2, 3)[:, :, :length]


def _pairs(x_BHAK: Tensor, *, window: int, back: int, tail: int) -> Tensor:
    """Each block of keys or values behind the block before it, [B, H, G, 2W, K]."""
    padded_BHGWK = F.pad(x_BHAK, (0, 0, window - back, tail)).unflatten(2, (-1, window))
    return torch.cat([padded_BHGWK[:, :, :-1], padded_BHGWK[:, :, 1:]], dim=3)


def seen_in_blocks(segment_BA: Tensor | None, *, keys: int, length: int, window: int, device: torch.device) -> Tensor:
    """Return [B or 1, G, W, 2W] of bool: may a query see a key, counted from the block before?

    With `segment_BA`, no token sees another document of its row.
    """
    blocks, back = -(-length // window), keys - length
    query_W = torch.arange(window, device=device)[:, None] + window
    key_X = torch.arange(2 * window, device=device)[None, :]
    near_WX = (key_X <= query_W) & (key_X > query_W - window)
    # Before the tokens stands padding.
    first_WX = near_WX & (key_X >= window - back)
    seen_BGWX = torch.cat([first_WX[None], near_WX[None].expand(blocks - 1, -1, -1)])[None]
    # Most rows are one document: their mask is as small as that of one row.
    if segment_BA is None or bool((segment_BA == segment_BA[:, :1]).all()):
        return seen_BGWX
    tail = -length % window
    query_BGW = F.pad(segment_BA[:, back:], (0, tail)).unflatten(1, (blocks, window))
    key_BGX = F.pad(segment_BA, (window - back, tail)).unfold(1, 2 * window, window)
    return seen_BGWX & (query_BGW[..., None] == key_BGX[:, :, None, :])
