"""Whole passes over the train part of a task: every piece once in each pass, in a new order.

    three passes over the pieces a b c d e, in batches of four
    order      c a e b d   b e a c d   a d c b e
    batches    c a e b / d b e a / c d a d           left out: c b e

A batch may begin in one pass and end in the next, so that all batches have the same number of rows,
which devices and memories of rows rely on. What does not fill a last batch is left out, once after
all the passes of a visit to the task (less than one batch).

The passes over small tasks are kept in memory: their batches then cost next to nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from ttt.stream import Batch, Ints, spread
from ttt.tasks.machinery.cut import SourceView

# A pass of at most so many numbers is made whole (40 MB of float32).
WHOLE_PASS = 10_000_000
# All passes that are kept hold at most so many numbers.
MOST = 64_000_000


def train_units(view: SourceView, *, length: int, tokens: int | None) -> Ints:
    """Return the pieces that a pass reads: all, or the first of each class, `tokens` in all.

    Raises ValueError where a class has fewer.
    """
    if tokens is None:
        return _units_of(view, view.classes, length=length)
    count = tokens // length * view.source.per_row(length=length)
    # Evenly over the classes, whatever their sizes.
    shares = np.bincount(spread(count, over=len(view.classes)), minlength=len(view.classes))
    pieces = []
    for class_index, share in zip(view.classes, shares.tolist(), strict=True):
        units = _units_of(view, np.array([class_index]), length=length)
        if len(units) < share:
            name, held = view.source.class_name(int(class_index)), _held(view, units, length=length)
            raise ValueError(
                f"task.train_tokens={tokens}: {name!r} has only {held} to train on, in rows of {length}, and "
                f"{share * length // view.source.per_row(length=length)} tokens of it are needed"
            )
        pieces.append(units[:share])
    return np.concatenate(pieces)


def _units_of(view: SourceView, classes: Ints, *, length: int) -> Ints:
    units = view.source.units(classes, length=length)
    assert units is not None, "a source without an end cannot be read in passes"
    return units


def _held(view: SourceView, units: Ints, *, length: int) -> str:
    """Say how many tokens, and bytes of text, some pieces hold."""
    per_row = view.source.per_row(length=length)
    tokens = len(units) * length // per_row
    if view.source.token_bytes is None:
        return f"{tokens} tokens"
    rows = view.source.take(units[:, None], length=length).tokens_BT.numpy()
    return f"{tokens} tokens ({view.source.token_bytes[rows].sum()} bytes)"


class Passes:
    """The batches of one task that is read in whole passes.

    `units`: the task's pieces; `passes`: how often a visit to the task reads each of them.
    """

    def __init__(
        self, view: SourceView, *, units: Ints, key: Sequence[int], rows: int, length: int, passes: int
    ) -> None:
        self._view, self._key, self._length, self._passes = view, list(key), length, passes
        self._units, self._rows = units, rows
        self._per_row = view.source.per_row(length=length)
        self._last_order: tuple[int, Ints] = (-1, np.empty(0, np.int64))
        # Each visit has whole passes of its own, so that a revisit begins with a new pass.
        self.visit_rows = passes * len(units) // self._per_row
        self.visit_steps = passes * len(units) // self._batch_units

    def batch(self, step: int) -> Batch:
        """Return the batch at `step`, from memory where the task is small."""
        if not self._is_small:
            return self.read(step)
        visit, place = divmod(step, self.visit_steps)
        # The pass in which the batch begins keeps it.
        # Passes stand end to end: the first unit of the batch says in which one it lies.
        turn = place * self._batch_units // len(self._units)
        return self._whole(visit, turn)[place - self._first_batch(turn)]

    def read(self, step: int) -> Batch:
        """Return the batch at `step`, made for this call alone."""
        visit, place = divmod(step, self.visit_steps)
        size = self._batch_units
        return self._take(self._units[self._places(visit, place * size, (place + 1) * size)])

    @property
    def _batch_units(self) -> int:
        return self._rows * self._per_row

    @cached_property
    def _is_small(self) -> bool:
        # A table of rows can be shuffled only where a row is one unit.
        numbers = self._length * (self._view.source.vector_size or 1)
        return self._per_row == 1 and len(self._units) * numbers <= WHOLE_PASS

    def _take(self, units: Ints) -> Batch:
        return self._view.take(units.reshape(-1, self._per_row), length=self._length)

    def _whole(self, visit: int, turn: int) -> list[Batch]:
        """Return all batches that begin in one pass of a visit, made at once."""
        # Passes are numbered through all visits, so that each has an order of its own.
        epoch = visit * self._passes + turn
        batches = CACHE.find(self, epoch)
        if batches is not None:
            return batches
        first, last = self._first_batch(turn), min(self._first_batch(turn + 1), self.visit_steps)

        def shuffle(table: Batch) -> list[Batch]:
            # Only tasks whose rows are single units come here: a row is a unit.
            places = self._places(visit, first * self._rows, last * self._rows)
            return table.pick(places).cut(self._rows)

        return CACHE.make(self, epoch, make=lambda: self._take(self._units), shuffle=shuffle)

    def _first_batch(self, turn: int) -> int:
        """Return the first batch of a visit that begins in its pass `turn` or later."""
        return -(-turn * len(self._units) // self._batch_units)

    def _places(self, visit: int, start: int, stop: int) -> Ints:
        """Return which units stand from `start` to `stop` in the passes of a visit, end to end."""
        count = len(self._units)
        # A batch may lie in several passes: each of them gives a slice of its order.
        turns = range(start // count, -(-stop // count))
        orders = [
            self._order(visit * self._passes + turn)[max(start - turn * count, 0) : stop - turn * count]
            for turn in turns
        ]
        return np.concatenate(orders)

    def _order(self, epoch: int) -> Ints:
        # The last order is kept: to shuffle a large task would cost more than a batch.
        if self._last_order[0] != epoch:
            order = np.random.default_rng([*self._key, epoch]).permutation(len(self._units))
            self._last_order = epoch, order
        return self._last_order[1]


class PassCache:
    """Passes over small tasks, kept up to `most` numbers in all; the oldest pass goes first.

    It holds the rows of each task in one order (the table), and the batches of the task's last
    pass. Bounded, since some streams have many tasks (800 permutations); several tasks at a time,
    since some alternate among them (joint training).
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._tables: OrderedDict[object, Batch] = OrderedDict()
        self._batches: dict[object, tuple[int, list[Batch]]] = {}

    def find(self, task: object, epoch: int) -> list[Batch] | None:
        """Return the batches of a pass if they are at hand."""
        last_epoch, batches = self._batches.get(task, (-1, []))
        return batches if last_epoch == epoch else None

    def make(
        self, task: object, epoch: int, *, make: Callable[[], Batch], shuffle: Callable[[Batch], list[Batch]]
    ) -> list[Batch]:
        """Make and keep the batches of a pass.

        `make` returns the rows of the task, `shuffle` cuts them into the batches of this pass.
        """
        # A pass is a shuffled copy of the table: far cheaper than to make its rows again.
        table = self._tables.get(task)
        if table is None:
            table = self._tables[task] = make()
        self._tables.move_to_end(task)
        self._batches[task] = epoch, shuffle(table)
        # The pass just made stays, however large.
        while len(self._tables) > 1 and self._size() > self._most:
            oldest, _ = self._tables.popitem(last=False)
            del self._batches[oldest]
        return self._batches[task][1]

    def _size(self) -> int:
        # Twice: the table, and its shuffled copy.
        return 2 * sum(table.tokens_BT.numel() for table in self._tables.values())


# One for all tasks of the process, so that the bound holds for all of them together.
CACHE = PassCache(most=MOST)
