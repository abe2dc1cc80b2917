"""The checks of causality in one mode: what may not move, and how far it does.

Shapes: R rows (lanes), T time, L = T + 1 tokens, N flips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ttt.adapters.base import FastState, Mode, shared
from ttt.learner import Learner, Reader
from ttt.probes.flips import Flip, Passage, Reading, Start, moved_by_each, places, profile

Condition = Literal["score before update", "state from earlier tokens", "single pass", "state reset"]
# Largest change, as a share of the largest score, where another shape rounds differently: rounding
# of fp32 stays below 1e-4, and what writes move is of the order of 1.
TOLERANCE = 1e-3
# Positions of padding before a row.
PADDING = 3


@dataclass(frozen=True)
class Check:
    """The largest change where none may be; `where`: what moved, in words."""

    condition: Condition
    what: str
    mode: Mode
    size: float
    allowed: float
    where: str

    @property
    def leaks(self) -> bool:
        # Not `>`: a change that is NaN is a leak too.
        return not self.size <= self.allowed


class ModeProbe:
    """The checks of one mode.

    On a CPU nothing that must not move may move by a single bit; elsewhere sums may be ordered
    anew in every reading.
    """

    def __init__(self, learner: Learner, start: Start, token_RT: Tensor, *, rows: int) -> None:
        self._learner, self._start = learner, start
        self._state = copied(start.state)
        self._initial = copied(learner.adapter.initial())
        self._exact = 0.0 if token_RT.device.type == "cpu" else TOLERANCE
        self._length = token_RT.shape[1]
        text = Passage.of(token_RT).rows([row % len(token_RT) for row in range(max(rows, 2))])
        self._reading = Reading(learner, start, text)
        self.profile: list[float] = []

    def order(self, flips: Sequence[Flip]) -> list[Check]:
        """Flips in place: scores before them, those of other rows, and a second reading."""
        # All tokens of the odd rows are flipped, and no even row may notice.
        odd_R1 = torch.arange(len(self._reading.text.token_RL))[:, None] % 2 == 1
        change_RT = self._reading.moved_by(odd_R1.expand(-1, self._length + 1))
        lanes = self._moved("state from earlier tokens", "other rows", change_RT, ~odd_R1, "row {row} with other rows")
        reading = self._reading
        if lanes.leaks:
            # In rows that mix every score would move: each flip is read alone.
            reading = Reading(self._learner, self._start, reading.text.rows([0]))
        change_NT = moved_by_each(reading, flips)
        # A profile is about the distance from one token,
        # so flips of a whole rest say nothing to it.
        single = [n for n, flip in enumerate(flips) if not flip.onward]
        self.profile = profile(change_NT[single], [flips[n].at for n in single]) if single else []
        return [*self._before_flips(change_NT, torch.tensor([flip.at for flip in flips])), lanes, *self._second()]

    def _before_flips(self, change_NT: Tensor, at_N: Tensor) -> list[Check]:
        """Position t scores token t + 1: a flip at p may move no position before p."""
        distance_NT = at_N[:, None] - torch.arange(self._length)
        # The last token that is read, and the one after it, against the first score.
        is_first_NT = (at_N[:, None] >= self._length - 1) & (at_N[:, None] == distance_NT) & (distance_NT > 1)
        where = "the score of token {score} with token {at}"
        return [
            self._moved("score before update", "token itself", change_NT, distance_NT == 1, where, at_N),
            self._moved("state from earlier tokens", "later tokens", change_NT, distance_NT > 1, where, at_N),
            self._moved("single pass", "end to beginning", change_NT, is_first_NT, where, at_N),
        ]

    def _second(self) -> list[Check]:
        change_RT = self._reading.again(self._start.state)
        start = difference(self._start.state, self._state)
        return [
            self._moved("single pass", "second reading", change_RT, torch.tensor(True), "position {t} when read again"),
            self._check("state from earlier tokens", "state read from", start, "the state that a reading started from"),
        ]

    def layouts(self, chunk: int | None) -> list[Check]:
        """Left padding, pieces, and packed documents."""
        time_T, place_L, middle = torch.arange(self._length), torch.arange(self._length + 1), self._length // 2 + 1
        is_real_T = time_T >= PADDING
        padded = Reading(self._learner, self._start, self._reading.text.rows([0, 1]).cut(is_real_T.long() - 1))
        # The first row is flipped under its padding, the second from its middle on.
        change_RT = padded.moved_by(torch.stack([place_L < PADDING, place_L >= middle]))
        still_RT = torch.stack([is_real_T, is_real_T & (time_T < middle)])
        where = "position {t} with left padding"
        padding = self._moved("state from earlier tokens", "left padding", change_RT, still_RT, where)
        return [padding, *self._pieces(chunk), *self._documents(time_T >= middle, place_L >= middle, chunk)]

    def _documents(self, is_second_T: Tensor, is_second_L: Tensor, chunk: int | None) -> list[Check]:
        """Two documents in each row: order within and between them, and what the lifetime parts."""
        rows = len(self._reading.text.token_RL)
        packed = Reading(self._learner, self._start, self._reading.text.cut(is_second_T.long()))
        at = places(self._length, chunk=chunk, count=rows)
        change_NT = moved_by_each(packed, [Flip(place, onward=True) for place in at])
        at_N = torch.tensor(at)
        still_NT = at_N[:, None] > torch.arange(self._length)
        where = "the score of token {score} with token {at} of packed documents"
        checks = [self._moved("state from earlier tokens", "packed documents", change_NT, still_NT, where, at_N)]
        # With a longer lifetime the documents of a row share what is written.
        if self._learner.adapter.reset == "sequence" or not self._start.write:
            # Even rows are flipped in their first document, odd rows in their second one.
            odd_R1 = torch.arange(rows)[:, None] % 2 == 1
            change_RT = packed.moved_by(is_second_L == odd_R1)
            where = "position {t} with another document"
            checks.append(self._moved("state reset", "other documents", change_RT, is_second_T != odd_R1, where))
        return checks

    def _pieces(self, chunk: int | None) -> list[Check]:
        """Read in pieces, a reader gives the same scores and leaves earlier states alone."""
        batch, length, size = self._reading.text.batch, self._length, chunk or self._length
        # These cuts lie before, at and behind the border of a chunk, where states are handed on.
        inner = {1, size - 1, size, size + 2, length // 2, length - 1}
        ends = sorted({0, length, *(end for end in inner if 0 < end < length)})
        reader = Reader(self._learner, state=self._start.state, write=self._start.write)
        logits, moved = [], 0.0
        for begin, end in pairwise(ends):
            left = reader.export()
            before = copied(left)
            logits.append(reader.read(batch.tokens_BT[:, begin:end]))
            moved = max(moved, difference(left, before))
        change_RT = self._reading.change(torch.cat(logits, 1))
        where = "position {t} when read in pieces"
        whole = self._moved("state from earlier tokens", "in pieces", change_RT, torch.tensor(True), where)
        states = self._check("state from earlier tokens", "states of pieces", moved, "the state before a piece")
        # Pieces have other shapes than the whole, and
        # arithmetic of another shape rounds differently.
        return [replace(whole, allowed=TOLERANCE), states]

    def lifetimes(self) -> list[Check]:
        """Writes off write nothing, and fast weights end when they are said to."""
        reset, after = self._learner.adapter.reset, self._reading.after
        if not self._initial:
            return []
        if not self._start.write:
            return [self._check("state reset", "writes off", difference(after, self._state), "a state, writes off")]
        carried = shared(self._learner.adapter.carry(after))
        # A carried state may hold more digits than the initial one, and then reads as another zero.
        carried = {name: x.to(self._initial[name].dtype) for name, x in carried.items()}
        checks = []
        if reset != "never":
            self._learner.fast = carried
            self._learner.begin_task()
            left = difference(self._learner.fast, self._initial)
            checks.append(self._check("state reset", "next task", left, "the state of a new task with the old one"))
        if reset == "sequence":
            change_RT = self._reading.again(carried)
            where = "position {t} with the sequence before"
            checks.append(self._moved("state reset", "next sequence", change_RT, torch.tensor(True), where))
        return checks

    def _moved(
        self, condition: Condition, what: str, change_RT: Tensor, still: Tensor, where: str, at_R: Tensor | None = None
    ) -> Check:
        """The check of the largest change of a score in the places that `still` marks."""
        held_RT = change_RT.nan_to_num(torch.inf).masked_fill(~still, 0)
        # argmax counts through the flattened tensor.
        row, t = divmod(int(held_RT.argmax()), self._length)
        at = None if at_R is None else int(at_R[row])
        return self._check(condition, what, float(held_RT[row, t]), where.format(row=row, t=t, score=t + 1, at=at))

    def _check(self, condition: Condition, what: str, size: float, where: str) -> Check:
        return Check(condition, what, self._start.mode, size, self._exact, where)


def copied(state: FastState) -> FastState:
    return {name: x.clone() for name, x in state.items()}


def difference(one_state: FastState, other: FastState) -> float:
    """The largest difference of two states; infinite where their names differ."""
    if set(one_state) != set(other):
        return torch.inf
    sizes = [(x.double() - other[name].double()).abs().max() for name, x in one_state.items() if x.numel()]
    return max((float(size.nan_to_num(torch.inf)) for size in sizes), default=0.0)
