"""The tokens of `mlp_fast` that a later piece writes: cells of an open chunk or an open document.

Shapes: B batch (lanes), T time, N chunks, C cells per chunk, L tokens of open documents, D model
width, F feed-forward width, X any width.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ttt.adapters.base import OPEN, FastState
from ttt.adapters.mlp_rule import WriteRule
from ttt.adapters.reading import Pass, open_place, span_of
from ttt.kernels.chunks import next_cell
from ttt.models.cache import Cache
from ttt.stream import Batch

# The ends of the names of what decays where a chunk begins; momentum does not.
DECAYING = (".memory", ".key_sum", ".key_count")


@dataclass(frozen=True)
class DecodePass:
    """One token in every lane, each in the same `cell` of its open chunk.

    `after`: the state after the pass, in which each layer still has to `put` its cells. `chunks`:
    the open chunks that this reader has filled so far, by name.
    """

    rule: WriteRule
    cell: int
    after: FastState
    chunks: dict[str, Tensor]

    @property
    def closes(self) -> bool:
        """Is the chunk full with this token?"""
        return self.cell == self.rule.chunk - 1

    def put(self, name: str, new_B1X: Tensor) -> Tensor:
        """Put the token into its cell of the chunk [B, C, X] that has this name in the state."""
        old_BCX = self.after.get(name)
        if self.cell == 0 or old_BCX is None:
            # Not that of the chunk before: whoever remembers that may go on from there.
            old_BCX = new_B1X.new_zeros(len(new_B1X), self.rule.chunk, new_B1X.shape[-1])
        elif self.chunks.get(name) is not old_BCX:
            old_BCX = old_BCX.expand(len(new_B1X), -1, -1).clone()
        # In place: a copy of the chunk for each token would take longer than reading it.
        old_BCX[:, self.cell] = new_B1X[:, 0]
        self.after[name] = self.chunks[name] = old_BCX
        return old_BCX


class OpenCells:
    """The open chunks of readers that decode, each known by its cache.

    Only cells behind the last token are written, which nobody looks at who goes on from an earlier
    state.
    """

    def __init__(self) -> None:
        self._chunks: WeakKeyDictionary[Cache, dict[str, Tensor]] = WeakKeyDictionary()

    def next(self, reader: Cache, batch: Batch, state: FastState, rule: WriteRule) -> DecodePass | None:
        """The pass over a token in each lane that fills a cell; None for other passes."""
        place = open_place(state)
        # Gradients need tensors that nothing is written into afterwards.
        if place is None or batch.segment_BT.shape[1] != 1 or rule.write_at != "chunk" or torch.is_grad_enabled():
            return None
        cell = next_cell(batch.segment_BT, place)
        if cell is None or rule.chunk == 1 or span_of(reader) is not None:
            return None
        # A write that depends on what is written already goes another way.
        if cell == rule.chunk - 1 and not rule.associative:
            return None
        after = state | {f"{OPEN}count": torch.full_like(place.count_B, (cell + 1) % rule.chunk)}
        if cell == 0:
            # A chunk begins inside a document: the state decays, and nothing is reset.
            decays = [name for name in state if name.endswith(DECAYING) and not name.startswith(OPEN)]
            after |= {name: rule.decay * state[name] for name in decays}
        return DecodePass(rule, cell, after, self._chunks.setdefault(reader, {}))


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
