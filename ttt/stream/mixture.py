"""Batches whose rows come from several origins: tasks, or phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ttt.stream.stream import Batch, Ints, Phase, Task

# Keeps the order of rows apart from all other random numbers.
DEAL = 101


def gather(which: Ints, draw: Callable[[int, int], Batch]) -> Batch:
    """Rows from several origins: row b is one of those that `draw(which[b], how many)` gives."""
    origins, counts = np.unique(which, return_counts=True)
    drawn = Batch.stack([draw(int(o), int(count)) for o, count in zip(origins, counts, strict=True)])
    return drawn.pick(np.argsort(np.argsort(which, kind="stable"), kind="stable"))


def mixture(tasks: Sequence[Task], weights: NDArray[np.float64], *, key: Sequence[int], step: int, rows: int) -> Batch:
    """A batch whose rows come from `tasks` by `weights`."""
    which = np.random.default_rng([*key, step]).choice(len(tasks), size=rows, p=weights)
    return gather(which, lambda j, count: tasks[j].batch(step).rows(0, count))


class Dealt:
    """The rows of some phases dealt in turn, each phase's in its own order: equal shares, whatever their lengths.

    A batch is a pure function of its step and costs as much as one of a phase: a row is made once. A phase that has
    no rows left begins again. `taken`: rows of each phase that were dealt before step 0.
    """

    def __init__(self, phases: Sequence[Phase], *, taken: Sequence[int], key: int) -> None:
        self._phases, self._taken, self._key = phases, taken, key
        self._rows = rows_of(phases)
        # Of each phase the batch that is being dealt.
        self._open: dict[int, tuple[int, Batch]] = {}

    def batch(self, step: int) -> Batch:
        before, of = step * self._rows, len(self._phases)
        turns = np.arange(before, before + self._rows) % of
        # A lane must not always see the same task.
        which = np.random.default_rng([DEAL, self._key, step]).permutation(turns)
        return gather(which, lambda p, count: self._take(p, self._taken[p] + share(before, p, of=of), count))

    def _take(self, phase: int, first: int, count: int) -> Batch:
        pieces: list[Batch] = []
        while count:
            place, offset = divmod(first % (self._phases[phase].steps * self._rows), self._rows)
            pieces.append(self._made(phase, place).rows(offset, offset + count))
            first, count = first + len(pieces[-1].tokens_BT), count - len(pieces[-1].tokens_BT)
        return Batch.stack(pieces)

    def _made(self, phase: int, place: int) -> Batch:
        if self._open.get(phase, (-1, None))[0] != place:
            self._open[phase] = place, self._phases[phase].batch(place)
        return self._open[phase][1]


def share(rows: int, place: int, *, of: int) -> int:
    """How many of the first `rows` dealt to `of` in turn go to the one at `place`."""
    return -(-(rows - place) // of)


def rows_of(phases: Sequence[Phase]) -> int:
    """Rows of a batch: all phases of a stream have as many."""
    return len(phases[0].batch(0).tokens_BT)
