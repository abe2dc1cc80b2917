"""Puzzles in a text: sentences to hide, and the question at the end that they answer.

hidden    " One of the special magic numbers for amber-otter is: 3851047."
question  "\\nWhat is the special magic number for amber-otter ... ? ... is"
answer    " 3851047."
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

# A thousand pairs, hardly any of which stands in a haystack by chance.
ADJECTIVES = (
    "amber", "brave", "calm", "dusty", "eager", "faint", "gentle", "hollow", "icy", "jolly", "keen", "lively",
    "mellow", "narrow", "olive", "proud", "quiet", "rapid", "silver", "tidy", "upper", "vivid", "warm", "young",
    "zesty", "bitter", "clever", "daring", "early", "frosty", "grand", "humble",
)  # fmt: skip
NOUNS = (
    "otter", "anchor", "basket", "candle", "dragon", "engine", "falcon", "garden", "harbor", "island", "jacket",
    "kettle", "ladder", "meadow", "needle", "orchid", "pebble", "quiver", "ribbon", "saddle", "temple",
    "urchin", "valley", "walnut", "yacht", "zebra", "bridge", "copper", "desert", "ember", "forest", "glacier",
)  # fmt: skip
# Three syllables make 600,000 words, so that long lists need not repeat any.
CONSONANTS, VOWELS = "bdfghjklmnprstvwz", "aeiou"
# window: one window of the haystack's text; joined: several, as many as are needed; noise: five
# short sentences, again and again.
Hay = Literal["window", "joined", "noise"]
Draw = Callable[[np.random.Generator], str]


class Space(NamedTuple):
    """How long a text is in all, in tokens, and what a piece of it costs."""

    tokens: int
    cost: Callable[[str], int]


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """What stands in a text and is asked at its end.

    `hidden`: what the answer follows from, in this order. `others`: what only looks like it.
    `listing`: what stands in place of nearly all of the haystack.
    """

    question: str
    answer: str
    hidden: Sequence[str] = ()
    others: Sequence[str] = ()
    listing: Sequence[str] = ()


class PuzzleKind(Protocol):
    """A kind of puzzle."""

    hay: Hay

    @property
    def is_listing(self) -> bool:
        """Do the puzzles stand in all parts of the text, so that they have no depth?"""
        ...

    @property
    def recipe(self) -> Sequence[Any]:
        """All that determines the puzzles, as plain data."""
        ...

    def puzzle(self, rng: np.random.Generator, *, present: bool, space: Space) -> Puzzle:
        """Return a puzzle whose answer follows from the text, or if not `present`, from nothing."""
        ...


def draw_number(rng: np.random.Generator, *, digits: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, size=digits))


def draw_words(rng: np.random.Generator) -> str:
    """Return two words, such as `amber-otter`."""
    return f"{ADJECTIVES[rng.integers(len(ADJECTIVES))]}-{NOUNS[rng.integers(len(NOUNS))]}"


def draw_uuid(rng: np.random.Generator) -> str:
    """Return what looks like a UUID: 8-4-4-4-12 hexadecimal digits."""
    digits = rng.bytes(16).hex()
    return "-".join(digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))


def draw_letters(rng: np.random.Generator) -> str:
    """Return a name of five capital letters."""
    return "".join(chr(65 + k) for k in rng.integers(0, 26, size=5))


def draw_coined(rng: np.random.Generator) -> str:
    """Return a word that does not exist, such as `bakilo`."""
    return "".join(CONSONANTS[rng.integers(len(CONSONANTS))] + VOWELS[rng.integers(len(VOWELS))] for _ in range(3))


def draw_distinct(draw: Draw, rng: np.random.Generator, count: int, *, but: Collection[str] = ()) -> list[str]:
    """Draw until there are `count` different texts, none of them in `but`."""
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        text = draw(rng)
        if text not in but:
            drawn[text] = None
    return list(drawn)
