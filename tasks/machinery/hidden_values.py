"""Needles as sentences: a value under a key, several values, a chain of variables.

    city               The secret number of Lima is 3851047.
    Values             One of the special magic numbers for amber-otter is: 3851047.
    Variables          VAR QWERT = 12345.   VAR ASDFG = VAR QWERT.

`Values` and `Variables` as in RULER (arXiv 2404.06654), with answers in the order of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from ttt.tasks.machinery.puzzles import (
    Draw,
    Hay,
    Puzzle,
    Space,
    draw_distinct,
    draw_letters,
    draw_number,
    draw_uuid,
    draw_words,
)

CITIES = (
    "Lima", "Oslo", "Cairo", "Quito", "Hanoi", "Tunis", "Dakar", "Riga", "Sofia", "Accra", "Delhi", "Turin", "Perth",
    "Osaka", "Bergen", "Leeds",
)  # fmt: skip
Value = Literal["number", "words", "uuid"]


@dataclass(frozen=True, kw_only=True)
class City:
    """The number of a city."""

    digits: int
    hay: ClassVar[Hay] = "window"
    is_listing: ClassVar[bool] = False
    needle: ClassVar[str] = " The secret number of {city} is {number}."
    question: ClassVar[str] = "\nWhat is the secret number of {city}? The secret number of {city} is"
    answer: ClassVar[str] = " {number}."

    @property
    def recipe(self) -> Sequence[Any]:
        return [CITIES, self.needle, self.question, self.answer]

    def puzzle(self, rng: np.random.Generator, *, present: bool, space: Space) -> Puzzle:
        city, right = CITIES[rng.integers(len(CITIES))], draw_number(rng, digits=self.digits)
        # Without a needle another number stands there, so that nothing else differs.
        shown = right if present else draw_number(rng, digits=self.digits)
        return Puzzle(
            hidden=[self.needle.format(city=city, number=shown)],
            question=self.question.format(city=city),
            answer=self.answer.format(number=right),
        )


@dataclass(frozen=True, kw_only=True)
class Values:
    """`count` values of one key, and a value for each of `others` keys that nobody asks for."""

    digits: int
    value: Value = "number"
    count: int = 1
    others: int = 0
    hay: Hay = "joined"
    is_listing: ClassVar[bool] = False
    needle: ClassVar[str] = " One of the special magic {what}s for {key} is: {value}."
    question: ClassVar[str] = (
        "\nWhat {is_or_are} the special magic {what} for {key} mentioned in the text above? "
        "The special magic {what} for {key} {is_or_are}"
    )

    def __post_init__(self) -> None:
        # Twice: what the control asks for stands nowhere.
        needed = 2 * (2 * self.count + self.others)
        if self.value == "number" and 10**self.digits < needed:
            raise ValueError(f"source.digits={self.digits}: too few for {needed} different numbers")

    @property
    def recipe(self) -> Sequence[Any]:
        settings = [self.value, self.count, self.others, self.hay]
        return [*settings, self.needle, self.question]

    def puzzle(self, rng: np.random.Generator, *, present: bool, space: Space) -> Puzzle:
        draws: dict[Value, Draw] = {
            "number": partial(draw_number, digits=self.digits),
            "words": draw_words,
            "uuid": draw_uuid,
        }
        draw = draws[self.value]
        key, *keys = draw_distinct(draw_words, rng, 1 + self.others)
        values = draw_distinct(draw, rng, self.count + self.others, but=(key, *keys))
        right = values[: self.count] if present else draw_distinct(draw, rng, self.count, but=(key, *keys, *values))
        what = {"number": "number", "words": "word", "uuid": "uuid"}[self.value]
        named = {"what": what + "s" * (self.count > 1), "key": key, "is_or_are": "are" if self.count > 1 else "is"}
        # Needles differ in key and value alone: nothing else tells the one that is asked for.
        sentences = [
            self.needle.format(what=what, key=name, value=value)
            for name, value in zip([key] * self.count + keys, values, strict=True)
        ]
        return Puzzle(
            hidden=sentences[: self.count],
            others=sentences[self.count :],
            question=self.question.format(**named),
            answer=f" {', '.join(right)}.",
        )


@dataclass(frozen=True, kw_only=True)
class Variables:
    """A chain of `count` assignments behind the first one, and `others` chains of other values."""

    digits: int
    count: int = 4
    others: int = 0
    hay: Hay = "noise"
    is_listing: ClassVar[bool] = False
    first: ClassVar[str] = " VAR {name} = {value}."
    link: ClassVar[str] = " VAR {name} = VAR {before}."
    question: ClassVar[str] = "\nWhich variables have the value {value} in the text above? In order, they are"

    def __post_init__(self) -> None:
        if 10**self.digits < 2 * (2 + self.others):
            raise ValueError(f"source.digits={self.digits}: too few for {2 + self.others} different numbers")

    @property
    def recipe(self) -> Sequence[Any]:
        return [self.count, self.others, self.hay, self.first, self.link, self.question]

    def puzzle(self, rng: np.random.Generator, *, present: bool, space: Space) -> Puzzle:
        length = 1 + self.count
        names = draw_distinct(draw_letters, rng, length * (2 + self.others))
        value, *values = draw_distinct(partial(draw_number, digits=self.digits), rng, 2 + self.others)
        # What the control asks for is drawn with all other names, so that it equals none of them.
        chain, unseen = names[:length], names[length : 2 * length]
        others = [
            sentence
            for k in range(self.others)
            for sentence in self._chain(names[(2 + k) * length : (3 + k) * length], values[1 + k])
        ]
        return Puzzle(
            # The control assigns another value, to variables that nobody asks for.
            hidden=self._chain(chain, value if present else values[0]),
            others=others,
            question=self.question.format(value=value),
            answer=f" {', '.join(chain if present else unseen)}.",
        )

    def _chain(self, names: Sequence[str], value: str) -> list[str]:
        links = [self.link.format(name=name, before=before) for before, name in pairwise(names)]
        return [self.first.format(name=names[0], value=value), *links]
