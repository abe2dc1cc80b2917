"""Which rows a memory of fixed size keeps, decided as the rows come.

    n-th row of a group whose m rows are in a full memory: with probability m / n it replaces one of
    them at random
    n-th row of a group that was never the largest of a full memory: it replaces one of the largest

Class-balancing reservoir sampling (Chrysakis and Moens 2020,
proceedings.mlr.press/v119/chrysakis20a). With one group it is algorithm R (Vitter 1985), in which
every row seen is equally likely to be kept. Groups (tasks, classes) get equal shares.

Shapes: B rows of a batch, M rows in memory, G groups.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ttt.stream import Ints

NOTHING = np.empty(0, np.int64)
# Rows of random numbers that are made at once: a generator takes longer to set up than to run.
BLOCK = 64


class UniformRows:
    """Rows of uniform numbers in [0, 1): row n is a function of the key and n.

    `taken` rows were taken so far. It is the whole state, so a run that goes on repeats no number.
    """

    def __init__(self, *key: int) -> None:
        self._key, self.taken = key, 0
        self._block: tuple[tuple[int, int], NDArray[np.float64]] | None = None

    def take(self, count: int) -> NDArray[np.float64]:
        """Return the next row, of `count` numbers."""
        block, row = divmod(self.taken, BLOCK)
        self.taken += 1
        if self._block is None or self._block[0] != (block, count):
            # The key and the number of the block are the seed: no state has to be saved.
            numbers = np.random.default_rng([*self._key, block]).random((BLOCK, count))
            self._block = (block, count), numbers
        return self._block[1][row]


class Reservoir:
    """The places of a memory of `size` rows, `filled` so far. It holds no rows, only counts."""

    def __init__(self, *, size: int, groups: int, key: int) -> None:
        self.size, self.filled = size, 0
        self.group_M = np.zeros(size, np.int64)
        self.seen_G, self.stored_G = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        self._has_share_G = np.zeros(groups, np.bool_)
        self._random = UniformRows(key, 0)

    def choose(self, group: Ints | int, *, rows: int) -> tuple[Ints, Ints]:
        """Decide which of the `rows` rows of a batch are kept; return their indices and places.

        `group`: the group of each row, or of all. Of two rows for one place the later one gets it.
        """
        nth = np.arange(1, rows + 1) if isinstance(group, int) else _nth_of_its_group(group)
        nth += self.seen_G[group]
        # Two numbers a row, needed or not, so that later rows get the same numbers either way.
        random_2B = self._random.take(2 * rows).reshape(2, -1)
        if self.filled == self.size and self._has_share_G[group].all():
            # Whole arrays at once: all but the beginning of a stream takes this path.
            # Algorithm R: the n-th row draws a rank below n and replaces the row of that rank.
            row_at = self._replace(group, (random_2B[0] * nth).astype(np.int64))
        else:
            each = zip(np.broadcast_to(group, rows), nth, *random_2B, strict=True)
            places = [self._place(*row) for row in each]
            row_at = {place: b for b, place in enumerate(places) if place is not None}
        # Unlike `+=`, `add.at` counts a group once for each of its rows.
        np.add.at(self.seen_G, group, rows if isinstance(group, int) else 1)
        if not row_at:
            return NOTHING, NOTHING
        return np.fromiter(row_at.values(), np.int64, len(row_at)), np.fromiter(row_at, np.int64, len(row_at))

    def state(self) -> dict[str, Tensor]:
        """Return the groups of the kept rows, and all counts."""
        arrays = {"group": self.group_M[: self.filled], "seen": self.seen_G, "has_share": self._has_share_G}
        counts = {"chosen": torch.tensor(self._random.taken)}
        return {name: torch.from_numpy(x.copy()) for name, x in arrays.items()} | counts

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a state that `state` returned."""
        group, self.seen_G, self._has_share_G = (state[x].numpy().copy() for x in ("group", "seen", "has_share"))
        self.filled = len(group)
        self.group_M[: self.filled] = group
        self.stored_G = np.bincount(group, minlength=len(self.seen_G))
        self._random.taken = int(state["chosen"])

    def _replace(self, group: Ints | int, rank_B: Ints) -> dict[int, int]:
        """Map place to row, for rows of groups that have their share and replace their own kind."""
        rows = np.flatnonzero(rank_B < self.stored_G[group])
        if not len(rows):
            return {}
        # Places sorted by group: the k-th row of a group is k places behind the group's first one.
        order = np.argsort(self.group_M, kind="stable")
        first = np.searchsorted(self.group_M[order], group if isinstance(group, int) else group[rows])
        return dict(zip((order[first + rank_B[rows]]).tolist(), rows.tolist(), strict=True))

    def _place(self, group: int, nth: int, random: float, other: float) -> int | None:
        """Return the place of one row, the `nth` of its group; None where it is not kept."""
        if self.filled < self.size:
            place, self.filled = self.filled, self.filled + 1
        else:
            # Once the largest, always at its share: from then on algorithm R within the group.
            self._has_share_G |= self.stored_G == self.stored_G.max()
            taken_from, rank = group, int(random * nth)
            if not self._has_share_G[group]:
                # A group below its share grows at the cost of the largest one.
                taken_from = int(self.stored_G.argmax())
                rank = int(other * self.stored_G[taken_from])
            if rank >= self.stored_G[taken_from]:
                return None
            place = int(np.flatnonzero(self.group_M == taken_from)[rank])
            self.stored_G[taken_from] -= 1
        self.group_M[place] = group
        self.stored_G[group] += 1
        return place


def _nth_of_its_group(group_B: Ints) -> Ints:
    """Number the rows of each group in a batch: 1 for its first row, 2 for its second, ..."""
    order = np.argsort(group_B, kind="stable")
    sorted_B = group_B[order]
    nth_B = np.empty_like(group_B)
    # Sorted by group, a row's number is its place less the place of its group's first row.
    nth_B[order] = np.arange(1, len(group_B) + 1) - np.searchsorted(sorted_B, sorted_B)
    return nth_B
