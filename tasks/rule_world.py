"""`rule-world`: a row of digits is rewritten by a rule; a prompt can name a part of the rule.

    task     reverse, then swap 3 and 7     [null null] 3 1 4 1 = 1 4 1 7
    lesson   sort, one-up                   [sort one-up] 3 1 4 1 = 2 2 4 5

A prompt can express every instruction, so the best prompt alone is right where neither of the
swapped digits is in the answer (0.41 of the rows of four digits). No prompt can express the swap:
only the slow weights can learn it.
With four digits there are 8 x 45 = 360 tasks of one instruction. Two instructions give 64 programs;
some of them do nothing, others do the same as one instruction or as another program: the docs and
the tests have the counts.

Shapes: B rows, L digits of a row, Q question, S state (the digits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from ttt.stream import Ints
from ttt.tasks.machinery.swapped import Swapped

DIGITS = 10


@dataclass(kw_only=True, eq=False)
class RuleWorld(Swapped):
    """Arguments are explained in conf/source/rule-world.yaml."""

    items: Annotated[int, Ge(2)]
    instructions: ClassVar[tuple[str, ...]] = (
        "reverse", "rotate", "swap-pairs", "sort", "one-up", "three-up", "nine-minus", "swap-halves",
    )  # fmt: skip

    def sizes(self) -> tuple[int, int]:
        self.symbols = range(DIGITS)
        return self.items + 1, self.items

    def ask(self, rows: int, *, rng: np.random.Generator, lesson: bool) -> Ints:
        digits_BL = rng.integers(0, DIGITS, size=(rows, self.items))
        return np.concatenate([digits_BL, np.full((rows, 1), self.mark("="))], axis=1)

    def begin(self, question_BQ: Ints) -> Ints:
        # A copy, since `obey` writes into the state and the question is used again.
        return question_BQ[:, : self.items].copy()

    def follow(self, word: int, state_BS: Ints, question_BQ: Ints) -> Ints:
        name = self.instructions[word]
        if name in ("one-up", "three-up"):
            return (state_BS + (1 if name == "one-up" else 3)) % DIGITS
        if name == "nine-minus":
            return DIGITS - 1 - state_BS
        if name == "sort":
            return np.sort(state_BS, axis=1)
        return state_BS[:, self._order(name)]

    def end(self, state_BS: Ints) -> Ints:
        return state_BS

    def _order(self, name: str) -> Ints:
        """Return, for each place, the place from which it takes its digit: [L]."""
        place_L, half = np.arange(self.items), self.items // 2
        if name == "reverse":
            return place_L[::-1]
        if name == "rotate":
            return np.roll(place_L, -1)
        # With an odd number of digits the last one has no partner, and the middle one no half.
        if name == "swap-pairs":
            # x ^ 1 exchanges 0 and 1, 2 and 3, and so on.
            return np.where(place_L < 2 * half, place_L ^ 1, place_L)
        return np.concatenate([place_L[-half:], place_L[half : self.items - half], place_L[:half]])
