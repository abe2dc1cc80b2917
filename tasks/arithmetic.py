"""`arithmetic`: two numbers, and a hidden calculation of which a prompt can name a part.

    task     plus, then swap 3 and 7     [null null] 8 1 5 2 = 7 4     18 + 25 = 43, 3 written as 7
    lesson   plus, double                [plus double] 8 1 5 2 = 6 8   (18 + 25) * 2 = 86

Numbers are written with the ones first, in the order in which one calculates by hand: a digit then
follows from digits to its left and a carry. Everything is modulo `modulus`. Instructions are
followed from left to right and change the first number; `exchange` swaps the two numbers.
A prompt can express each calculation of one or two instructions; no prompt expresses the swap of
digits.

Shapes: B rows, D digits of a number, Q question, S state (the two numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from ttt.stream import Ints
from ttt.tasks.machinery.swapped import Swapped

# The product of two numbers with more digits does not fit into 64 bits.
MOST_DIGITS = 9


@dataclass(kw_only=True, eq=False)
class Arithmetic(Swapped):
    """Arguments are explained in conf/source/arithmetic.yaml."""

    digits: Annotated[int, Interval(ge=1, le=MOST_DIGITS)]
    modulus: Annotated[int, Ge(2)] | None
    instructions: ClassVar[tuple[str, ...]] = (
        "plus", "minus", "times", "carryless", "exchange", "double", "next", "larger",
    )  # fmt: skip

    def sizes(self) -> tuple[int, int]:
        if self.modulus is not None and self.modulus > 10**self.digits:
            raise ValueError(
                f"source.modulus={self.modulus}: must be at most {10**self.digits} with source.digits={self.digits}"
            )
        self.symbols = range(10)
        self._modulus = self.modulus or 10**self.digits
        # 1, 10, 100, ...: the ones stand first, as digits are written here.
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
        name = self.instructions[word]
        if name == "exchange":
            return state_BS[:, ::-1]
        first_B, second_B = state_BS.T
        # Both numbers stay, because a later instruction may use the second one. % in numpy is never
        # negative, so that a difference below zero wraps round.
        return np.stack([self._result(name, first_B, second_B) % self._modulus, second_B], axis=1)

    def _result(self, name: str, first_B: Ints, second_B: Ints) -> Ints:
        """Return what an instruction makes of the first number, before the modulus: [B]."""
        match name:
            case "plus":
                return first_B + second_B
            case "minus":
                return first_B - second_B
            case "times":
                return first_B * second_B
            case "carryless":
                return (self._written(first_B) + self._written(second_B)) % 10 @ self._places
            case "double":
                return 2 * first_B
            case "next":
                return first_B + 1
            case "larger":
                return np.maximum(first_B, second_B)
        raise AssertionError(name)

    def end(self, state_BS: Ints) -> Ints:
        return self._written(state_BS[:, 0])

    def _written(self, number_B: Ints) -> Ints:
        """Return the digits of each number, the ones first: [B, D]."""
        digits_BD: Ints = number_B[:, None] // self._places % 10
        return digits_BD
