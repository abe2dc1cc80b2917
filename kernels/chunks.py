"""The chunk grid: a row of tokens cut into chunks, restarted at every document of the row.

Shapes: B batch, T time, N chunks a row, C tokens a chunk, X any width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ChunkGrid:
    """Where each token of a row lies in the grid of chunks.

    `full_BN`: the chunk holds C tokens of one document, so it is written;
    `opens_BN`: the chunk begins a document;
    `slot_BT`: token t lies in grid cell slot = n * C + c (None: plainly one after another).
    """

    size: int
    num_chunks: int
    length: int
    full_BN: Tensor
    opens_BN: Tensor
    slot_BT: Tensor | None

    def split(self, x_BTX: Tensor) -> Tensor:
        """[B, T, X] -> [B, N, C, X]; cells without a token are zero."""
        if self.slot_BT is None:
            x_BGX = F.pad(x_BTX, (0, 0, 0, self.cells - self.length)) if self.cells > self.length else x_BTX
        else:
            index_BTX = self.slot_BT.unsqueeze(-1).expand_as(x_BTX)
            zeros_BGX = x_BTX.new_zeros(x_BTX.shape[0], self.cells, x_BTX.shape[-1])
            x_BGX = zeros_BGX.scatter(1, index_BTX, x_BTX)
        return x_BGX.unflatten(1, (self.num_chunks, self.size))

    @property
    def cells(self) -> int:
        return self.num_chunks * self.size

    def join(self, x_BNCX: Tensor) -> Tensor:
        """[B, N, C, X] -> [B, T, X]: the inverse of `split`."""
        x_BGX = x_BNCX.flatten(1, 2)
        if self.slot_BT is None:
            return x_BGX[:, : self.length]
        return x_BGX.gather(1, self.slot_BT.unsqueeze(-1).expand(-1, -1, x_BGX.shape[-1]))


def chunk_grid(segment_BT: Tensor, chunk: int) -> ChunkGrid:
    """Cut rows into chunks of `chunk` tokens; a new value in `segment_BT` starts a new document.

    Raises ValueError if `chunk` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: a chunk holds at least one token")
    batch, length = segment_BT.shape
    if length == 0 or bool((segment_BT == segment_BT[:, :1]).all()):
        return plain_grid(length, chunk=chunk, device=segment_BT.device)
    opens_BT = F.pad(segment_BT[:, 1:] != segment_BT[:, :-1], (1, 0), value=True)
    time_T = torch.arange(length, device=segment_BT.device)
    start_BT = torch.where(opens_BT, time_T, 0).cummax(1).values
    offset_BT = time_T - start_BT
    # A chunk begins wherever the offset in its document is a multiple of the chunk size.
    chunk_BT = (offset_BT % chunk == 0).cumsum(1) - 1
    num_chunks = int(chunk_BT.max()) + 1
    shape = (batch, num_chunks)
    count_BN = torch.zeros(shape, dtype=torch.long, device=segment_BT.device)
    count_BN.scatter_add_(1, chunk_BT, torch.ones_like(chunk_BT))
    opened_BN = torch.zeros_like(count_BN).scatter_add_(1, chunk_BT, opens_BT.long())
    return ChunkGrid(
        size=chunk,
        num_chunks=num_chunks,
        length=length,
        full_BN=count_BN == chunk,
        opens_BN=opened_BN > 0,
        slot_BT=chunk_BT * chunk + offset_BT % chunk,
    )


def plain_grid(length: int, *, chunk: int, device: torch.device) -> ChunkGrid:
    """The grid of rows that each hold one document."""
    num_chunks = -(-length // chunk)
    index_N = torch.arange(num_chunks, device=device)
    return ChunkGrid(
        size=chunk,
        num_chunks=num_chunks,
        length=length,
        full_BN=((index_N + 1) * chunk <= length)[None],
        opens_BN=(index_N == 0)[None],
        slot_BT=None,
    )
