"""A memory of rows: a fixed number of them, chosen as they come.

    n-th row of a group whose m rows are in a full memory: with probability m / n in place of one of them, at random
    n-th row of a group that never was the largest of a full memory: in place of a row of the largest

Class-balancing reservoir sampling (Chrysakis and Moens 2020, proceedings.mlr.press/v119/chrysakis20a). With one group
it is algorithm R (Vitter 1985): every row seen is as likely to be there. With groups (tasks, classes) these get equal
shares. Rows are chosen in whole arrays; one by one only until the memory is full and all its groups have their share.

Shapes: B rows of a batch, M rows in memory, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ttt.stream import Ints, Stream

NONE = np.empty(0, np.int64)
# Batches whose random numbers are made at once.
BLOCK = 64
KEPT = ("group", "phase", "seen", "has_share", "places")


class Memory:
    """`columns` are what a row is made of; group and phase of each row, and all counts, stay on the CPU."""

    def __init__(self, *, size: int, groups: int, key: int) -> None:
        self.size, self.filled = size, 0
        self.columns: dict[str, Tensor] = {}
        self._key = key
        self._group_M, self._phase_M = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._seen_G, self._stored_G = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
        self._has_share_G = np.zeros(groups, np.bool_)
        # How often rows were chosen, and drawn: random numbers are a function of it.
        self._places = np.zeros(2, np.int64)
        self._blocks: dict[int, tuple[tuple[int, int], NDArray[np.float64]]] = {}
        self._old: tuple[int, Ints] | None = None

    def draw(self, rows: int, *, before: int) -> Ints | None:
        """Places of `rows` rows at random, with replacement, of those from phases before one; None: there are none."""
        if self._old is None or self._old[0] != before:
            self._old = before, np.flatnonzero(self._phase_M[: self.filled] < before)
        old = self._old[1]
        return old[(self._random(1, rows) * len(old)).astype(np.int64)] if len(old) else None

    def choose(self, group: Ints | int, *, rows: int, phase: int) -> tuple[Ints, Ints]:
        """Which of the `rows` of a batch are kept, and in which places; the later of two rows gets a place.

        `group`: of each row, or of all.
        """
        nth = np.arange(1, rows + 1) if isinstance(group, int) else _nth_of_its_group(group)
        nth += self._seen_G[group]
        random_2B = self._random(0, 2 * rows).reshape(2, -1)
        if self.filled == self.size and self._has_share_G[group].all():
            placed = self._replace(group, (random_2B[0] * nth).astype(np.int64))
        else:
            each = zip(np.broadcast_to(group, rows), nth, *random_2B, strict=True)
            places = [self._place(*row) for row in each]
            placed = {place: b for b, place in enumerate(places) if place is not None}
        np.add.at(self._seen_G, group, rows if isinstance(group, int) else 1)
        if not placed:
            return NONE, NONE
        where = np.fromiter(placed, np.int64, len(placed))
        self._phase_M[where], self._old = phase, None
        return np.fromiter(placed.values(), np.int64, len(placed)), where

    def put(self, columns: Mapping[str, Tensor], places: Ints) -> None:
        """`columns`: those of the chosen rows."""
        where = torch.from_numpy(places)
        for name, x in columns.items():
            if name not in self.columns:
                self.columns[name] = x.new_zeros(self.size, *x.shape[1:])
            self.columns[name].index_copy_(0, where.to(x.device), x)

    def pick(self, places: Ints) -> dict[str, Tensor]:
        where = torch.from_numpy(places).to(next(iter(self.columns.values())).device)
        return {name: x.index_select(0, where) for name, x in self.columns.items()}

    def state(self) -> dict[str, Tensor]:
        rows = (self._group_M[: self.filled], self._phase_M[: self.filled])
        own = (*rows, self._seen_G, self._has_share_G, self._places)
        kept = {name: torch.from_numpy(x.copy()) for name, x in zip(KEPT, own, strict=True)}
        return kept | {f"column.{name}": x[: self.filled].clone() for name, x in self.columns.items()}

    def restore(self, state: dict[str, Tensor], *, device: torch.device) -> None:
        group, phase, self._seen_G, self._has_share_G, self._places = (state[name].numpy().copy() for name in KEPT)
        self.filled = len(group)
        self._group_M[: self.filled], self._phase_M[: self.filled] = group, phase
        self._stored_G = np.bincount(group, minlength=len(self._seen_G))
        self._blocks, self._old, self.columns = {}, None, {}
        everywhere = np.arange(self.filled)
        columns = {name.removeprefix("column."): x for name, x in state.items() if name.startswith("column.")}
        self.put({name: x.to(device) for name, x in columns.items()}, everywhere)

    def _random(self, purpose: int, count: int) -> NDArray[np.float64]:
        """Uniform numbers that are a function of the key, the purpose and how often it was asked for."""
        block, place = divmod(int(self._places[purpose]), BLOCK)
        self._places[purpose] += 1
        known = self._blocks.get(purpose)
        if known is None or known[0] != (block, count):
            made = np.random.default_rng([self._key, purpose, block]).random((BLOCK, count))
            known = self._blocks[purpose] = (block, count), made
        return known[1][place]

    def _replace(self, group: Ints | int, rank_B: Ints) -> dict[int, int]:
        """For rows of groups that have their share: those that are kept take the place of one of their group."""
        kept = np.flatnonzero(rank_B < self._stored_G[group])
        if not len(kept):
            return {}
        order = np.argsort(self._group_M, kind="stable")
        first = np.searchsorted(self._group_M[order], group if isinstance(group, int) else group[kept])
        return dict(zip((order[first + rank_B[kept]]).tolist(), kept.tolist(), strict=True))

    def _place(self, group: int, nth: int, random: float, other: float) -> int | None:
        """For one row: its place, if it is kept."""
        if self.filled < self.size:
            place, self.filled = self.filled, self.filled + 1
        else:
            self._has_share_G |= self._stored_G == self._stored_G.max()
            taken_from, rank = group, int(random * nth)
            if not self._has_share_G[group]:
                taken_from = int(self._stored_G.argmax())
                rank = int(other * self._stored_G[taken_from])
            if rank >= self._stored_G[taken_from]:
                return None
            place = int(np.flatnonzero(self._group_M == taken_from)[rank])
            self._stored_G[taken_from] -= 1
        self._group_M[place] = group
        self._stored_G[group] += 1
        return place


def _nth_of_its_group(group_B: Ints) -> Ints:
    """1 for the first row of each group in a batch, 2 for the second, ..."""
    order = np.argsort(group_B, kind="stable")
    of_order = group_B[order]
    nth_B = np.empty_like(group_B)
    nth_B[order] = np.arange(1, len(group_B) + 1) - np.searchsorted(of_order, of_order)
    return nth_B


def key_of(stream: Stream) -> int:
    """Random choices change with the run's seed, for tasks do."""
    return int(stream.tasks[0].fingerprint[:12], 16)
