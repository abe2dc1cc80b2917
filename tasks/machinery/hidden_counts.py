"""Needles that stand everywhere: which words of a long list are the most frequent?

    CommonWords      ten words 30 times each, all others 3 times; asked in alphabetical order
    FrequentWords    the k-th word as often as 1/k^2 of the list; the first ones are asked, in order

Tasks cwe and fwe of RULER (arXiv 2404.06654), with words that do not exist, and answers in an order
that the question names, so that one answer is right.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any, ClassVar

import numpy as np

from ttt.tasks.machinery.puzzles import Hay, Puzzle, Space, draw_coined, draw_distinct

# How often a common word stands in a list at most, and how many times as often as the others.
REPEATS, RATIO = 30, 10


@dataclass(frozen=True, kw_only=True)
class _Listing(ABC):
    """A list of words that fills the text; `count` of them are asked for."""

    count: int
    hay: ClassVar[Hay] = "noise"
    is_listing: ClassVar[bool] = True
    question: ClassVar[str]

    @property
    def recipe(self) -> Sequence[Any]:
        return [type(self).__name__, self.count, self.question, REPEATS, RATIO]

    @abstractmethod
    def repeats(self, room: int, cost: int) -> Iterator[int]:
        """How often each word stands in a list of `room` tokens, the asked ones first.

        `cost`: tokens of the longest asked word. Yields nothing where the list is too short.
        """

    def in_order(self, right: Sequence[str]) -> Sequence[str]:
        return right

    def puzzle(self, rng: np.random.Generator, *, present: bool, space: Space) -> Puzzle:
        frequent = draw_distinct(draw_coined, rng, self.count)
        right = frequent if present else draw_distinct(draw_coined, rng, self.count, but=frequent)
        question = self.question.format(count=self.count)
        answer = f" {', '.join(self.in_order(right))}."
        room = space.tokens - space.cost(question) - space.cost(answer)
        listing = self._fill(rng, frequent, right, room=room, space=space)
        # Shuffled, so that only counting helps.
        order = rng.permutation(len(listing))
        return Puzzle(listing=[listing[k] for k in order], question=question, answer=answer)

    def _fill(
        self, rng: np.random.Generator, frequent: list[str], right: Sequence[str], *, room: int, space: Space
    ) -> list[str]:
        """Return the words of the list, each as often as it stands there."""
        listing: list[str] = []
        # What the control asks for stands nowhere in the list.
        used = {*frequent, *right}
        cost = max(space.cost(f" {word}") for word in frequent)
        self._check(room, cost, space.tokens - 1)
        for k, repeats in enumerate(self.repeats(room, cost)):
            word = frequent[k] if k < self.count else draw_distinct(draw_coined, rng, 1, but=used)[0]
            room -= repeats * space.cost(f" {word}")
            if room < 0:
                break
            used.add(word)
            listing += [f" {word}"] * repeats
        return listing

    def _check(self, room: int, cost: int, tokens: int) -> None:
        """Raise ValueError where no words stand out of `room` tokens, in a row of `tokens`."""
        # The formula of `repeats` is not inverted: sizes are tried until a list comes out.
        least = next(size for size in itertools.count(max(room, 1)) if next(self.repeats(size, cost), None))
        if least > room:
            raise ValueError(
                f"task.seq_len={tokens}: too short for a list whose {self.count} words stand out; "
                f"at least {tokens + least - room}"
            )


class CommonWords(_Listing):
    question: ClassVar[str] = "\nWhich {count} words are the most common in the list above? In alphabetical order:"

    def repeats(self, room: int, cost: int) -> Iterator[int]:
        # The common words take half of a short list.
        common = min(room // (2 * self.count * cost), REPEATS)
        if common < 2:
            return
        yield from [common] * self.count
        while True:
            yield max(common // RATIO, 1)

    def in_order(self, right: Sequence[str]) -> Sequence[str]:
        return sorted(right)


class FrequentWords(_Listing):
    question: ClassVar[str] = "\nWhich {count} words are the most frequent in the list above? The most frequent first:"

    def repeats(self, room: int, cost: int) -> Iterator[int]:
        # The sum of 1/k^2 is pi^2/6: the list is filled, and what is left over goes to rare words.
        share = 6 / pi**2 * room / cost
        counts = [int(share / k**2) for k in range(1, self.count + 2)]
        if len({*counts}) < len(counts) or not counts[-1]:
            return
        yield from counts
        k = self.count + 2
        while True:
            yield max(int(share / k**2), 1)
            k += 1
