"""Whole passes over small tasks, kept in memory: their batches then cost next to nothing.

Some tasks are many (800 permutations), and some streams go round among theirs (joint training): what was used last is
kept, up to a bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ttt.stream import Batch


class Passes:
    """The rows of a task in one order (`table`), and its batches in the order of a pass. `most`: numbers in all."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._tables: OrderedDict[object, Batch] = OrderedDict()
        self._passes: dict[object, tuple[int, list[Batch]]] = {}

    def find(self, task: object, epoch: int) -> list[Batch] | None:
        """The batches of this pass, if they are at hand."""
        kept = self._passes.get(task)
        return kept[1] if kept is not None and kept[0] == epoch else None

    def make(
        self, task: object, epoch: int, *, make: Callable[[], Batch], shuffle: Callable[[Batch], list[Batch]]
    ) -> list[Batch]:
        """The batches of a pass of `task`: `make` gives its rows, `shuffle` what the pass makes of them."""
        table = self._tables.get(task)
        if table is None:
            table = self._tables[task] = make()
        self._tables.move_to_end(task)
        self._passes[task] = epoch, shuffle(table)
        while len(self._tables) > 1 and self._size() > self._most:
            oldest, _ = self._tables.popitem(last=False)
            del self._passes[oldest]
        return self._passes[task][1]

    def _size(self) -> int:
        return 2 * sum(table.tokens_BT.numel() for table in self._tables.values())
