"""A memory of rows: those that are drawn, and those that wait until their task has ended.

A reservoir (reservoir.py) decides at once which of the rows seen are kept, and where. A row of the
present task then waits, and the older row in its place stays until `admit`. So all that is drawn
during a task are old rows, as many as the memory holds, and after the task the content is that of
the reservoir over everything seen. While rows wait the memory takes at most twice its size.

Shapes: M rows in memory, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.strategies.reservoir import Reservoir, UniformRows
from ttt.stream import Ints

# What a row is made of, by name: tensors with one entry for each row.
Columns = Mapping[str, Tensor]


class Memory:
    """`columns` are the rows that may be drawn, in the first `ready` places."""

    def __init__(self, *, size: int, groups: int, key: int) -> None:
        self.reservoir = Reservoir(size=size, groups=groups, key=key)
        self.columns: dict[str, Tensor] = {}
        self.ready = 0
        self._waiting: dict[str, Tensor] = {}
        self._waits_M = np.zeros(size, np.bool_)
        # Numbers of its own: how often is drawn does not change which rows are kept.
        self._random = UniformRows(key, 1)

    def draw(self, rows: int) -> dict[str, Tensor] | None:
        """Return `rows` rows at random, with replacement; None where there are none."""
        if not self.ready:
            return None
        # Uniform numbers lie in [0, 1), so the product
        # stays below `ready`, and the cast rounds down.
        places = (self._random.take(rows) * self.ready).astype(np.int64)
        return _rows_at(places, self.columns)

    def put(self, rows: Columns, places: Ints, *, waits: bool) -> None:
        """Store rows in the places that the reservoir chose; where `waits`, only until `admit`."""
        if waits:
            self._write(self._waiting, rows, places)
            self._waits_M[places] = True
        else:
            self._write(self.columns, rows, places)
            self.ready = self.reservoir.filled

    def admit(self) -> None:
        """Let the waiting rows take their places."""
        places = np.flatnonzero(self._waits_M)
        if len(places):
            self.put(_rows_at(places, self._waiting), places, waits=False)
        # Dropped, so that between tasks the memory takes its own size only.
        self._waiting = {}
        self._waits_M[:] = False

    def state(self) -> dict[str, Tensor]:
        """Return the rows, those that wait too, and what decides on further ones."""
        places = np.flatnonzero(self._waits_M)
        counts = {"waiting": torch.from_numpy(places), "drawn": torch.tensor(self._random.taken)}
        drawable = {f"column.{name}": x[: self.ready].clone() for name, x in self.columns.items()}
        waiting = {f"waiting.{name}": x for name, x in _rows_at(places, self._waiting).items()}
        return self.reservoir.state() | counts | drawable | waiting

    def restore(self, state: dict[str, Tensor], *, device: torch.device) -> None:
        """Take up a state that `state` returned."""
        self.reservoir.restore(state)
        self._random.taken = int(state["drawn"])
        self.columns, self._waiting, self.ready = {}, {}, 0
        self._waits_M[:] = False
        drawable, waiting = (_part(state, prefix, device) for prefix in ("column.", "waiting."))
        if drawable:
            self.ready = len(next(iter(drawable.values())))
            self._write(self.columns, drawable, np.arange(self.ready))
        if waiting:
            self.put(waiting, state["waiting"].numpy(), waits=True)

    def _write(self, columns: dict[str, Tensor], rows: Columns, places: Ints) -> None:
        where = torch.from_numpy(places)
        for name, x in rows.items():
            stored = columns.get(name)
            if stored is None:
                # All at once: growing it row by row would copy it again and again.
                stored = x.new_zeros(self.reservoir.size, *x.shape[1:])
            elif stored.shape[1:] != x.shape[1:]:
                # Logits: a row has as many as it has scored tokens.
                width = max(stored.shape[1], x.shape[1])
                stored, x = padded(stored, width), padded(x, width)
            columns[name] = stored.index_copy_(0, where.to(x.device), x)


def padded(x_BS: Tensor, width: int) -> Tensor:
    """Append zeros along the second dimension, up to `width` entries."""
    # F.pad counts dimensions from the last one: pairs of zeros skip those behind the second.
    return F.pad(x_BS, (*(0, 0) * (x_BS.dim() - 2), 0, width - x_BS.shape[1]))


def _rows_at(places: Ints, columns: Columns) -> dict[str, Tensor]:
    where = torch.from_numpy(places)
    return {name: x.index_select(0, where.to(x.device)) for name, x in columns.items()}


def _part(state: dict[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x.to(device) for name, x in state.items() if name.startswith(prefix)}
