"""Sources of problems with a verifiable answer: what `reward-sequence` needs from a source.

    a task     [null null]    3 1 4 1 =    1 4 1 7     reverse, then swap 3 and 7; no word says so
    a lesson   [reverse null] 3 1 4 1 =    1 4 1 3     the base learns to obey words, but no task

A class is a hidden rule: instructions that words of a prompt can name, and a part that no word can.
"""

from __future__ import annotations

from typing import NoReturn, Protocol, runtime_checkable

import numpy as np

from ttt.stream import Batch, Layout, Prompt, Source

# What one types after source= for each of these sources; an error message lists them.
NAMES = ("rule-world", "star-graph", "arithmetic")


@runtime_checkable
class Problems(Source, Protocol):
    """A source whose classes are rules. All rows have `length` tokens, laid out as `layout` says.

    Everything that is drawn is a pure function of its arguments and the state of `rng`.
    """

    layout: Layout
    length: int
    num_classes: int

    def choose(self, ops: int) -> list[int]:
        """Return the classes with `ops` hidden instructions. Raises ValueError for no class."""
        ...

    def problems(self, index: int, *, rows: int, rng: np.random.Generator) -> Batch:
        """Draw problems of one class, with the seed prompt and true answers."""
        ...

    def describing(self, index: int) -> Prompt:
        """Return the prompt that says most of a class: the words of its instructions."""
        ...

    def lessons(self, *, rows: int, rng: np.random.Generator) -> Batch:
        """Draw rows of the base distribution; none of them is of a class."""
        ...

    def skills(self, *, rows: int, rng: np.random.Generator) -> Batch:
        """Draw rows for what the base should keep: single instructions in the prompt, no noise."""
        ...


def refuse(source: str) -> NoReturn:
    """Refuse a stream that wants sequences from a source of problems."""
    raise ValueError(f"source={source}: holds problems with a verifiable answer; use task=reward-sequence")
