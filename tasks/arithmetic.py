"""`arithmetic`: two numbers, and a hidden calculation of which a prompt can name a part.

    task     plus, then swap 3 and 7     [null null] 8 1 5 2 = 7 4        18 + 25 = 43, and 3 is written as 7
    lesson   plus, double                [plus double] 8 1 5 2 = 6 8      (18 + 25) * 2 = 86

Numbers have the ones first, as one calculates by hand: a digit then follows from digits to its left and a carry.
Everything is modulo `modulus`. Instructions change the first number (`exchange` changes both over), from left to right.
A prompt can express each calculation of one or two instructions; no prompt expresses the swapped digits.

Shapes: B rows, D digits of a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ttt.stream import Ints
from ttt.tasks.machinery.swapped import Swapped

# More digits than that do not fit into 64 bits when two numbers are multiplied.
MOST_DIGITS = 9


@dataclass(kw_only=True, eq=False)
class Arithmetic(Swapped):
    """Arguments are explained in conf/source/arithmetic.yaml."""

    digits: int
    modulus: int | None
    instructions: ClassVar[tuple[str, ...]] = (
        "plus", "minus", "times", "carryless", "exchange", "double", "next", "larger",
    )  # fmt: skip

    def sizes(self) -> tuple[int, int]:
        if not 1 <= self.digits <= MOST_DIGITS:
            raise ValueError(f"source.digits={self.digits}: must lie between 1 and {MOST_DIGITS}")
        if self.modulus is not None and not 2 <= self.modulus <= 10**self.digits:
            raise ValueError(f"source.modulus={self.modulus}: must lie between 2 and {10**self.digits}, or be null")
        self.symbols = range(10)
        self._modulus = self.modulus or 10**self.digits
        self._places = 10 ** np.arange(self.digits)
        return 2 * self.digits + 1, self.digits

    def ask(self, rows: int, *, rng: np.random.Generator, lesson: bool) -> Ints:
        first_B, second_B = rng.integers(0, self._modulus, size=(2, rows))
        marks_B1 = np.full((rows, 1), self.mark("="))
        return np.concatenate([self._written(first_B), self._written(second_B), marks_B1], axis=1)

    def begin(self, question_BQ: Ints) -> Ints:
        first_BD, second_BD = question_BQ[:, : self.digits], question_BQ[:, self.digits : -1]
        return np.stack([first_BD @ self._places, second_BD @ self._places], axis=1)

    def follow(self, word: int, state_BS: Ints, question_BQ: Ints) -> Ints:
        first_B, second_B = state_BS.T
        name = self.instructions[word]
        if name == "exchange":
            return state_BS[:, ::-1]
        if name == "carryless":
            changed_B = (self._written(first_B) + self._written(second_B)) % 10 @ self._places
        else:
            changed_B = {
                "plus": first_B + second_B,
                "minus": first_B - second_B,
                "times": first_B * second_B,
                "double": 2 * first_B,
                "next": first_B + 1,
                "larger": np.maximum(first_B, second_B),
            }[name]
        return np.stack([changed_B % self._modulus, second_B], axis=1)

    def end(self, state_BS: Ints) -> Ints:
        return self._written(state_BS[:, 0])

    def _written(self, number_B: Ints) -> Ints:
        """[B, D], the ones first."""
        digits_BD: Ints = number_B[:, None] // self._places % 10
        return digits_BD
