"""The chunk grid: rows of tokens cut into chunks that start anew at every document.

A reader may pass a sequence in pieces: the grid of a piece then continues where the previous piece
ended, possibly in the middle of a chunk. Padding (segment below 0) takes no place in the grid.
Shapes: B batch, T time, N chunks per row, C cells per chunk, G = N C cells per row, X any width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

# The segment "before" the first token: padding is negative too, but is never compared with it.
NOTHING_READ = -1


@dataclass(frozen=True)
class Place:
    """Where a reader stopped in each lane: tokens in the open chunk, document of the last token."""

    count_B: Tensor
    segment_B: Tensor


@dataclass(frozen=True)
class ChunkGrid:
    """Where each token of a row lies in the grid of chunks.

    `token_BNC`: the cell holds a token of this row, not padding or a token of an earlier piece.
    `begins_BN`: the chunk's first token lies in this row. `opens_BN`: it also begins a document.
    `closes_BN`: the chunk's last token lies in this row.
    These masks have a leading dimension of 1 where all lanes are alike.
    `slot_BT`: the cell n C + c of each token; padding lies in an extra cell after the last one.
    None: token t lies in cell t.
    `end`: where the row stops.
    """

    size: int
    num_chunks: int
    length: int
    token_BNC: Tensor
    opens_BN: Tensor
    begins_BN: Tensor
    closes_BN: Tensor
    slot_BT: Tensor | None
    end: Place

    def split(self, x_BTX: Tensor) -> Tensor:
        """Spread [B, T, X] over [B, N, C, X]; cells without a token are zero."""
        if self.slot_BT is None:
            x_BGX = F.pad(x_BTX, (0, 0, 0, self.cells - self.length)) if self.cells > self.length else x_BTX
        else:
            index_BTX = self.slot_BT.unsqueeze(-1).expand_as(x_BTX)
            # All padding goes into one extra cell, which is cut off again.
            zeros_BGX = x_BTX.new_zeros(x_BTX.shape[0], self.cells + 1, x_BTX.shape[-1])
            x_BGX = zeros_BGX.scatter(1, index_BTX, x_BTX)[:, :-1]
        return x_BGX.unflatten(1, (self.num_chunks, self.size))

    @property
    def cells(self) -> int:
        """Number of cells per row."""
        return self.num_chunks * self.size

    def join(self, x_BNCX: Tensor) -> Tensor:
        """Collect [B, T, X] from [B, N, C, X]: the inverse of `split`; padding becomes zero."""
        x_BGX = x_BNCX.flatten(1, 2)
        if self.slot_BT is None:
            return x_BGX[:, : self.length]
        index_BTX = self.slot_BT.unsqueeze(-1).expand(-1, -1, x_BGX.shape[-1])
        # Padding reads the extra cell, which holds zeros.
        return F.pad(x_BGX, (0, 0, 0, 1)).gather(1, index_BTX)


def chunk_grid(segment_BT: Tensor, chunk: int, *, after: Place | None = None, thin: bool = False) -> ChunkGrid:
    """Cut rows into chunks of `chunk` tokens; a new value in `segment_BT` starts a new document.

    With `after`, the rows continue where an earlier piece stopped. With `thin`, a piece of one
    token gets a grid of one cell, so that decoding does not pay for a whole chunk.
    Raises ValueError if `chunk` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: must be at least 1")
    # One document from the start is what training reads nearly always: its grid needs no scatter.
    if after is None and bool((segment_BT == segment_BT[:, :1]).all() & (segment_BT[:, :1] >= 0).all()):
        return _plain_grid(segment_BT, chunk)
    if after is None:
        nothing_B = torch.zeros_like(segment_BT[:, 0])
        after = Place(nothing_B, nothing_B + NOTHING_READ)
    cell = next_cell(segment_BT, after) if segment_BT.shape[1] == 1 else None
    if cell is not None:
        return _cell_grid(segment_BT, chunk, cell, after, thin=thin)
    return _any_grid(segment_BT, chunk, after, thin=thin)


def _any_grid(segment_BT: Tensor, chunk: int, after: Place, *, thin: bool) -> ChunkGrid:
    """Return the grid of rows with documents and padding anywhere."""
    batch, length = segment_BT.shape
    real_BT = segment_BT >= 0
    rank_BT = real_BT.cumsum(1)
    opens_BT = real_BT & (segment_BT != _segment_before(segment_BT, real_BT, after.segment_B))
    # Where the document of each token starts, as a rank in this row. A document that began in an
    # earlier piece starts at minus the number of tokens that its open chunk already holds.
    start_BT = torch.where(opens_BT, rank_BT - 1, -length - chunk).cummax(1).values
    place_BT = (rank_BT - 1 - torch.maximum(start_BT, -after.count_B[:, None])) % chunk
    # The first token of a row counts too, for it may lie in the middle of a chunk.
    chunk_BT = (real_BT & ((place_BT == 0) | (rank_BT == 1))).cumsum(1) - 1
    # A row of padding alone still has one (empty) chunk, so that shapes stay valid.
    num_chunks = max(int(chunk_BT.max()) + 1, 1)
    size = 1 if thin and length == 1 else chunk
    per_chunk = partial(_any_in_chunk, chunk_BT=chunk_BT, num_chunks=num_chunks)
    cells = num_chunks * size
    slot_BT = torch.where(real_BT, chunk_BT * size + place_BT % size, cells)
    token_BG = torch.zeros(batch, cells + 1, dtype=torch.bool, device=segment_BT.device).scatter(1, slot_BT, real_BT)
    return ChunkGrid(
        size=size,
        num_chunks=num_chunks,
        length=length,
        token_BNC=token_BG[:, :-1].unflatten(1, (num_chunks, size)),
        opens_BN=per_chunk(opens_BT),
        begins_BN=per_chunk(real_BT & (place_BT == 0)),
        closes_BN=per_chunk(real_BT & (place_BT == chunk - 1)),
        slot_BT=slot_BT,
        end=_end(segment_BT, place_BT, rank_BT, after, chunk),
    )


def _plain_grid(segment_BT: Tensor, chunk: int) -> ChunkGrid:
    """Return the grid of rows that each hold one document from its beginning."""
    length, device = segment_BT.shape[1], segment_BT.device
    num_chunks = -(-length // chunk)
    index_N = torch.arange(num_chunks, device=device)
    cell_G = torch.arange(num_chunks * chunk, device=device)
    return ChunkGrid(
        size=chunk,
        num_chunks=num_chunks,
        length=length,
        token_BNC=(cell_G < length).view(1, num_chunks, chunk),
        opens_BN=(index_N == 0)[None],
        begins_BN=torch.ones_like(index_N, dtype=torch.bool)[None],
        closes_BN=((index_N + 1) * chunk <= length)[None],
        slot_BT=None,
        end=Place(torch.full_like(segment_BT[:, -1], length % chunk), segment_BT[:, -1]),
    )


def next_cell(segment_B1: Tensor, after: Place) -> int | None:
    """Return the cell of the next token, if every lane goes on with its document in one cell."""
    # As lists: a decoder asks this for each token, and a comparison of tensors takes longer.
    counts, documents = after.count_B.tolist(), after.segment_B.tolist()
    document = documents[0]
    goes_on = document >= 0 and segment_B1.tolist() == [[document]] * len(documents)
    is_even = counts == counts[:1] * len(counts) and documents == [document] * len(documents)
    return counts[0] if goes_on and is_even else None


def _cell_grid(segment_B1: Tensor, chunk: int, cell: int, after: Place, *, thin: bool) -> ChunkGrid:
    """Return the grid of one token that goes on with the document of its lane."""
    size, batch, device = 1 if thin else chunk, len(segment_B1), segment_B1.device
    cell_C = torch.arange(size, device=device)
    return ChunkGrid(
        size=size,
        num_chunks=1,
        length=1,
        token_BNC=(cell_C == cell % size).expand(batch, 1, size),
        opens_BN=torch.full((batch, 1), False, device=device),
        begins_BN=torch.full((batch, 1), cell == 0, device=device),
        closes_BN=torch.full((batch, 1), cell == chunk - 1, device=device),
        slot_BT=torch.full_like(segment_B1, cell % size),
        end=Place(torch.full_like(after.count_B, (cell + 1) % chunk), after.segment_B),
    )


def _any_in_chunk(mark_BT: Tensor, *, chunk_BT: Tensor, num_chunks: int) -> Tensor:
    """Return whether any token of each chunk is marked, [B, N]."""
    zeros_BN = torch.zeros(len(mark_BT), num_chunks, dtype=torch.long, device=mark_BT.device)
    # Padding before the first token has chunk -1, but is never marked.
    return zeros_BN.scatter_add(1, chunk_BT.clamp(min=0), mark_BT.long()) > 0


def _segment_before(segment_BT: Tensor, real_BT: Tensor, segment_B: Tensor) -> Tensor:
    """Return the document of the last token before each token; padding in between is skipped."""
    time_T = torch.arange(segment_BT.shape[1], device=segment_BT.device)
    # A running maximum of places gives the last token up to
    # each place, and the shift by one the last token before it.
    last_BT = F.pad(torch.where(real_BT, time_T, -1).cummax(1).values, (1, -1), value=-1)
    return torch.where(last_BT < 0, segment_B[:, None], segment_BT.gather(1, last_BT.clamp(min=0)))


def _end(segment_BT: Tensor, place_BT: Tensor, rank_BT: Tensor, after: Place, chunk: int) -> Place:
    """Return the place after the last token of each row; a row of padding keeps its old place."""
    # argmax returns the first maximum: padding after the last token repeats its rank.
    last_B1 = rank_BT.argmax(1, keepdim=True)
    some_B = rank_BT[:, -1] > 0
    count_B = (place_BT.gather(1, last_B1)[:, 0] + 1) % chunk
    return Place(
        torch.where(some_B, count_B, after.count_B),
        torch.where(some_B, segment_BT.gather(1, last_B1)[:, 0], after.segment_B),
    )
