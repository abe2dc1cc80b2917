"""Batches whose rows come from several origins: tasks, or phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ttt.stream.batch import Batch, Ints
from ttt.stream.stream import Phase, Task

# First in the key of the generator that orders dealt rows: no other draw shares its numbers.
DEAL = 101


def mix_rows(origin_B: Ints, draw: Callable[[int, int], Batch]) -> Batch:
    """Return a batch whose row b comes from origin `origin_B[b]`.

    `draw(origin, count)` returns `count` rows of one origin.
    """
    origins, counts = np.unique(origin_B, return_counts=True)
    pairs = zip(origins, counts, strict=True)
    stacked = Batch.stack([draw(int(origin), int(count)) for origin, count in pairs])
    # The rows lie origin after origin; the rank of each place in a stable sort puts them back.
    return stacked.pick(np.argsort(np.argsort(origin_B, kind="stable"), kind="stable"))


def mixture(tasks: Sequence[Task], weights: NDArray[np.float64], *, key: Sequence[int], step: int, rows: int) -> Batch:
    """Return a batch of `rows` rows, each from a task drawn with `weights`."""
    task_B = np.random.default_rng([*key, step]).choice(len(tasks), size=rows, p=weights)
    # Each task's own batch at this step: a row stays the same whatever is mixed beside it.
    return mix_rows(task_B, lambda j, count: tasks[j].batch(step).rows(0, count))


class Dealt:
    """The rows of some phases dealt in turn: equal shares, and each phase's rows in their order.

    A batch is a pure function of its step and costs as much as a batch of one phase, since each
    row is made once. A phase that has no rows left begins again.
    `taken`: how many rows of each phase were dealt before step 0.
    """

    def __init__(self, phases: Sequence[Phase], *, taken: Sequence[int], key: int) -> None:
        self._phases, self._taken, self._key = phases, taken, key
        self._rows = batch_rows(phases)
        # Phase -> step and batch from which its rows are being dealt.
        self._open: dict[int, tuple[int, Batch]] = {}

    def batch(self, step: int) -> Batch:
        """Return the batch at `step`."""
        # All dealt rows are numbered: row n goes to phase n modulo the number of phases.
        before, of = step * self._rows, len(self._phases)
        turns = np.arange(before, before + self._rows) % of
        # Shuffled, so that a lane does not always see the same task.
        phase_B = np.random.default_rng([DEAL, self._key, step]).permutation(turns)

        def deal(phase: int, count: int) -> Batch:
            return self._take(phase, self._taken[phase] + share(before, phase, of=of), count)

        return mix_rows(phase_B, deal)

    def _take(self, phase: int, first: int, count: int) -> Batch:
        """Return `count` rows of a phase from its row `first` on, across its batches."""
        pieces: list[Batch] = []
        while count:
            # Modulo the rows of the phase: after its last row it begins again.
            place, offset = divmod(first % (self._phases[phase].steps * self._rows), self._rows)
            pieces.append(self._batch_of(phase, place).rows(offset, offset + count))
            first, count = first + len(pieces[-1].tokens_BT), count - len(pieces[-1].tokens_BT)
        return Batch.stack(pieces)

    def _batch_of(self, phase: int, step: int) -> Batch:
        if self._open.get(phase, (-1, None))[0] != step:
            self._open[phase] = step, self._phases[phase].batch(step)
        return self._open[phase][1]


def share(rows: int, place: int, *, of: int) -> int:
    """Return how many of the first `rows` rows, dealt to `of` receivers in turn, go to `place`."""
    return -(-(rows - place) // of)


def batch_rows(phases: Sequence[Phase]) -> int:
    """Return the rows of a batch, which is the same number in all phases of a stream."""
    return len(phases[0].batch(0).tokens_BT)
