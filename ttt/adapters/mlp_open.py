"""The tokens of `mlp_fast` that a later piece writes: cells of an open chunk or an open document.

Shapes: B batch (lanes), T time, N chunks, C cells per chunk, L tokens of open documents, D model
width, F feed-forward width, X any width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.adapters.base import OPEN, FastState
from ttt.adapters.reading import Pass


def fill_open_chunk(z_BNCF: Tensor, x_BNCD: Tensor, now: Pass, state: FastState) -> tuple[Tensor, Tensor, FastState]:
    """The grid with the cells that earlier pieces filled, and the cells to keep for the next piece.

    A chunk is written as a whole: its targets mix neighbouring tokens, wherever a piece ends.
    """
    token_BNC = now.grid.token_BNC.expand(len(z_BNCF), -1, -1)
    # Cells of the open chunk stand before the first new token of their lane.
    # A piece may begin in the middle of a chunk, at another place in each lane.
    first_B1 = token_BNC[:, 0].int().argmax(1, keepdim=True)
    earlier_BC = (first_B1 > torch.arange(now.grid.size, device=z_BNCF.device)) & token_BNC[:, 0].any(1, keepdim=True)
    used_B = token_BNC.any(2).sum(1)
    filled, rest = [], {}
    for key, x_BNCX in (("z", z_BNCF), ("x", x_BNCD)):
        old_BCX = state.get(f"{OPEN}{key}", torch.zeros_like(x_BNCX[:1, 0]))
        first_BCX = torch.where(earlier_BC[..., None], old_BCX, x_BNCX[:, 0])
        x_BNCX = torch.cat([first_BCX[:, None], x_BNCX[:, 1:]], 1)
        filled.append(x_BNCX)
        index_B1CX = (used_B - 1).clamp(min=0).view(-1, 1, 1, 1).expand(-1, 1, *x_BNCX.shape[2:])
        last_BCX = x_BNCX.gather(1, index_B1CX)[:, 0]
        # A lane that got only padding keeps the cells of the piece before.
        rest[f"{OPEN}{key}"] = torch.where((used_B > 0)[:, None, None], last_BCX, old_BCX)
    return filled[0], filled[1], rest


def after_open_documents(
    z_BTF: Tensor, x_BTD: Tensor, state: FastState, *, open_from: int
) -> tuple[Tensor, Tensor, FastState]:
    """The tokens of open documents before those of this piece, and what stays open after it."""
    rows, rest = [], {}
    for key, x_BTX in (("z", z_BTF), ("x", x_BTD)):
        x_BTX = torch.cat([state.get(f"{OPEN}{key}", x_BTX[:, :0]), x_BTX], 1)
        rows.append(x_BTX)
        rest[f"{OPEN}{key}"] = x_BTX[:, open_from:]
    return rows[0], rows[1], rest
