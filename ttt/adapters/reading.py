"""One pass of a model over a batch, as the layers of an adapter see it.

Layers sit deep inside a model whose `forward` knows nothing of fast weights. They find the state to
read, the chunk grid and the place for the new state at a `Desk` that they share.
Shapes: B batch (lanes), T time, N chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ttt.adapters.base import OPEN, FastState, Lifetime
from ttt.devices.context import Span
from ttt.kernels.chunks import NOTHING_READ, ChunkGrid, Place, chunk_grid
from ttt.models.cache import Cache
from ttt.stream import Batch


@dataclass
class Pass:
    """One pass over one piece: what layers need beside their input, and the state they leave.

    `resets_BN`: fast weights return to zero before this chunk; `blank`: nothing was ever written
    and this pass writes nothing, so the adapter may skip to the plain model. `span`: the tokens of
    this process, where several share the rows.
    """

    segment_BT: Tensor
    grid: ChunkGrid
    resets_BN: Tensor
    before: FastState
    write: bool
    streaming: bool
    after: FastState = field(default_factory=dict)
    blank: bool = False
    span: Span | None = None

    def state(self, layer: str) -> FastState:
        """The state one layer starts from, without the layer's name; open names keep OPEN.

        Where a process of earlier tokens hands on its state, wait for that.
        """
        received = None if self.span is None else self.span.relay.receive()
        return self._of(layer, self.before) if received is None else received

    def hand_on(self, layer: str) -> None:
        """Send what one layer has left to the process of the later tokens, if there is one."""
        if self.span is not None:
            self.span.relay.send(self._of(layer, self.after))

    def _of(self, layer: str, state: FastState) -> FastState:
        layer_state = {}
        for name, tensor in state.items():
            prefix = OPEN if name.startswith(OPEN) else ""
            if name.startswith(f"{prefix}{layer}."):
                layer_state[prefix + name.removeprefix(f"{prefix}{layer}.")] = tensor
        return layer_state

    def leave(self, layer: str, state: FastState) -> None:
        """Store the state after one layer: the inverse of `state`."""
        for name, tensor in state.items():
            prefix = OPEN if name.startswith(OPEN) else ""
            # Without streaming nobody continues inside the last chunk.
            if self.streaming or not prefix:
                self.after[f"{prefix}{layer}.{name.removeprefix(prefix)}"] = tensor


class Desk:
    """Where the layers of one adapter find the current pass.

    `thin`: when a reader decodes token by token, the grid has one cell a chunk (see `chunk_grid`).
    """

    def __init__(self, *, chunk: int, lifetime: Lifetime, thin: bool) -> None:
        self.chunk, self.lifetime, self._thin = chunk, lifetime, thin
        self._now: Pass | None = None

    @property
    def now(self) -> Pass:
        assert self._now is not None, "the model must be called through adapter.read(...)"
        return self._now

    @contextmanager
    def reading(
        self, batch: Batch, state: FastState, *, write: bool, streaming: bool, span: Span | None = None
    ) -> Iterator[Pass]:
        """Open a pass over `batch` that starts from `state`; `streaming`: rows may go on.

        `span`: rows are the part of this process.
        """
        place = open_place(state) if span is None else span.place(self.chunk)
        if place is None and streaming:
            place = no_place(batch)
        grid = chunk_grid(batch.segment_BT, self.chunk, after=place, thin=self._thin)
        resets_BN = grid.opens_BN if self.lifetime.reset == "sequence" else torch.zeros_like(grid.opens_BN)
        # Looked at only where it may save work: on a GPU, any() waits for everything before it.
        blank = not write and not any(bool(x.any()) for name, x in state.items() if not name.startswith(OPEN))
        self._now = Pass(batch.segment_BT, grid, resets_BN, state, write, streaming, blank=blank, span=span)
        if streaming:
            self._now.after |= {f"{OPEN}count": grid.end.count_B, f"{OPEN}segment": grid.end.segment_B}
        try:
            yield self._now
        finally:
            # A model that is called outside `reading` must fail, not read a stale pass.
            self._now = None


def span_of(cache: Cache | None) -> Span | None:
    """The part of this process, if several processes share the rows of a pass."""
    return cache if isinstance(cache, Span) else None


def open_place(state: FastState) -> Place | None:
    """Where the reader that left this state stopped; None: at the end of a batch."""
    return Place(state[f"{OPEN}count"], state[f"{OPEN}segment"]) if f"{OPEN}count" in state else None


def no_place(batch: Batch) -> Place:
    """The place of a reader that has not read anything."""
    zeros_B = torch.zeros_like(batch.segment_BT[:, 0])
    return Place(zeros_B, zeros_B + NOTHING_READ)
