"""The chunk grid as kernels for heads see it: heads are lanes, tokens lie in cells.

Shapes: B batch (lanes), T time, H heads, X = B H, N chunks, C cells a chunk, K any width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import OPEN
from ttt.adapters.reading import Pass


class Cells:
    """One pass's grid for `heads` heads. `ends_XN`: the chunk is full, or the row goes on with another one."""

    def __init__(self, now: Pass, *, lanes: int, heads: int) -> None:
        grid = now.grid
        self._grid, self._lanes, self._heads = grid, lanes, heads
        self.size = grid.size
        self.token_XNC = self._spread(grid.token_BNC)
        self.resets_XN = self._spread(now.resets_BN)
        self.begins_XN = self._spread(grid.begins_BN)
        self.closes_XN = self._spread(grid.closes_BN)
        # A document may end in the middle of a chunk: the next chunk starts from all that was written.
        self.ends_XN = self.closes_XN | F.pad(self.begins_XN[:, 1:], (0, 1))
        place_C = torch.arange(grid.size, device=grid.token_BNC.device)
        thin = now.streaming and now.segment_BT.shape[1] == 1
        # Which token of its chunk a cell holds; a piece of one token has but one cell.
        self.place_XNC = place_C.expand(1, 1, -1)
        if thin and f"{OPEN}count" in now.before:
            count_B = torch.where(grid.begins_BN[:, 0], 0, now.before[f"{OPEN}count"])
            self.place_XNC = count_B.repeat_interleave(heads).view(-1, 1, 1)

    def _spread(self, flag_BX: Tensor) -> Tensor:
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
        return x_XK.unflatten(0, (self._lanes, self._heads))

    def begin(self, start_XK: Tensor, running_XK: Tensor) -> Tensor:
        """Where gradients are taken: a chunk that begins starts from all that was written."""
        return torch.where(self.begins_XN[:, 0].view(-1, *(1,) * (running_XK.dim() - 1)), running_XK, start_XK)
