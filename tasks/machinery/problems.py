"""Sources of problems with a verifiable answer: what `reward-sequence` asks of one.

    a task     [null null]    3 1 4 1 =    1 4 1 7     reverse, then 3 and 7 change places; nothing says so
    a lesson   [reverse null] 3 1 4 1 =    1 4 1 3     the base learns to obey words, and never sees a task

A class is a hidden rule: some instructions that words of a prompt can name, and a rest that no word can.
"""

from __future__ import annotations

from typing import NoReturn, Protocol, runtime_checkable

import numpy as np

from ttt.stream import Batch, Layout, Source

# Sources that are this, as one types them.
NAMES = ("rule-world", "star-graph", "arithmetic")


@runtime_checkable
class Problems(Source, Protocol):
    """A source whose classes are rules. All rows have `length` tokens and are laid out as `layout` says.

    Everything that is drawn is a pure function of its arguments and the state of `rng`.
    """

    layout: Layout
    length: int
    num_classes: int

    def choose(self, ops: int) -> list[int]:
        """Classes with `ops` hidden instructions. Raises ValueError where there are none."""
        ...

    def problems(self, index: int, *, rows: int, rng: np.random.Generator) -> Batch:
        """Of one class: the seed prompt, true answers."""
        ...

    def lessons(self, *, rows: int, rng: np.random.Generator) -> Batch:
        """The base distribution: no row of it is of a class."""
        ...

    def skills(self, *, rows: int, rng: np.random.Generator) -> Batch:
        """What one hopes to keep of the base: each instruction by itself, evenly, said in the prompt, no noise."""
        ...


def refuse(source: str) -> NoReturn:
    """What every other stream hears that asks for sequences."""
    raise ValueError(f"source={source}: holds problems with a verifiable answer; use task=reward-sequence")
