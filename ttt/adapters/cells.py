"""The chunk grid as the kernels of memories see it: heads are lanes, tokens lie in cells.

Shapes: B batch (lanes), T time, H heads, X = B H, N chunks, C cells per chunk, K any width,
L = 1 or B lanes of a state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import OPEN
from ttt.adapters.reading import Pass


class Cells:
    """The grid of one pass, repeated for `heads` heads.

    `ends_XN`: the chunk is full, or the row continues with another chunk;
    `place_XNC`: which token of its chunk a cell holds.
    """

    def __init__(self, now: Pass, *, lanes: int, heads: int) -> None:
        grid = now.grid
        self._grid, self._lanes, self._heads = grid, lanes, heads
        self.size = grid.size
        self.token_XNC = self._spread(grid.token_BNC)
        self.resets_XN = self._spread(now.resets_BN)
        self.begins_XN = self._spread(grid.begins_BN)
        self.closes_XN = self._spread(grid.closes_BN)
        # A document may end in the middle of a chunk. What it wrote there must not be lost, so the
        # next chunk starts from it although the chunk is not full.
        self.ends_XN = self.closes_XN | F.pad(self.begins_XN[:, 1:], (0, 1))
        self.place_XNC = torch.arange(grid.size, device=grid.token_BNC.device).expand(1, 1, -1)
        # A piece of one token has a single cell, whose place the reader has counted.
        is_thin = now.streaming and now.segment_BT.shape[1] == 1
        if is_thin and f"{OPEN}count" in now.before:
            count_B = torch.where(grid.begins_BN[:, 0], 0, now.before[f"{OPEN}count"])
            self.place_XNC = count_B.repeat_interleave(heads).view(-1, 1, 1)

    def _spread(self, flag_BX: Tensor) -> Tensor:
        """Repeat a flag of each lane (or of all lanes, [1, ...]) for every head."""
        return flag_BX.expand(self._lanes, *flag_BX.shape[1:]).repeat_interleave(self._heads, 0)

    def split(self, x_BTHK: Tensor) -> Tensor:
        """[B, T, H, K] -> [B * H, N, C, K]."""
        x_BNCX = self._grid.split(x_BTHK.flatten(2))
        return x_BNCX.unflatten(-1, (self._heads, -1)).movedim(3, 1).flatten(0, 1)

    def join(self, x_XNCK: Tensor) -> Tensor:
        """[B * H, N, C, K] -> [B, T, H, K]."""
        x_BNCHK = x_XNCK.unflatten(0, (self._lanes, self._heads)).movedim(1, 3)
        return self._grid.join(x_BNCHK.flatten(3)).unflatten(-1, (self._heads, -1))

    def lanes(self, x_LHK: Tensor) -> Tensor:
        """A state with 1 or B lanes, [L, H, ...] -> [B * H, ...]."""
        return x_LHK.expand(self._lanes, *x_LHK.shape[1:]).flatten(0, 1)

    def unlanes(self, x_XK: Tensor) -> Tensor:
        """[B * H, ...] -> [B, H, ...]."""
        return x_XK.unflatten(0, (self._lanes, self._heads))

    def begin(self, start_XK: Tensor, running_XK: Tensor) -> Tensor:
        """The weights at which the first chunk's gradients are taken.

        A chunk that begins in this piece starts from everything written so far (`running_XK`); a
        chunk that continues keeps the start of its first piece.
        """
        return torch.where(self.begins_XN[:, 0].view(-1, *(1,) * (running_XK.dim() - 1)), running_XK, start_XK)


def into_lanes(x_BNCHX: Tensor) -> Tensor:
    """[B, ..., H, X] -> [B * H, ..., X], without a grid."""
    return x_BNCHX.movedim(-2, 1).flatten(0, 1)


def out_of_lanes(x: Tensor, heads: int) -> Tensor:
    """[B * H, ..., X] -> [B, ..., H, X]: the inverse of `into_lanes`."""
    return x.unflatten(0, (-1, heads)).movedim(1, -2)
