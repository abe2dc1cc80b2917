"""What sources of examples share: a train and an eval part of each class, and draws from them.

A subclass says what an example is (`_pack`, `per_row`, `show`).

Shapes: N examples, L tokens of an example before its label, K examples in a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from ttt.stream import Batch, Ints, spread

# The order of eval examples is part of the data: the same for every run.
EVAL_ORDER = 20240229


@dataclass(kw_only=True, eq=False)
class ExampleParts(ABC):
    """Examples of classes, all unlike each other. No example stands in both parts."""

    name: str
    eval_share: Annotated[float, Interval(gt=0, lt=1)]
    vocab_size: int = field(init=False)
    example_len: int | None = field(init=False)
    vector_size: int | None = field(init=False)
    symbols: range = field(init=False)
    labels: Sequence[int] = field(init=False)
    token_bytes: Ints | None = field(init=False, default=None)
    rows: dict[str, int] = field(init=False)
    fingerprint: str = field(init=False)

    @abstractmethod
    def show(self, tokens: Ints) -> str: ...

    @abstractmethod
    def per_row(self, *, length: int) -> int: ...

    @abstractmethod
    def _pack(self, example_BK: Ints) -> Batch:
        """Return rows of examples by their numbers."""

    def _split(
        self, tokens_NL: NDArray[np.generic], classes_N: Ints, names: Sequence[str], is_eval_N: NDArray[np.bool_] | None
    ) -> None:
        """Divide the examples into a train and an eval part of each class.

        `is_eval_N` is None where the last examples of each class are its eval part.
        """
        self._names = list(names)
        if is_eval_N is None:
            is_eval_N = last_share(classes_N, self.eval_share)
        twin_N = seen_in_train(tokens_NL, is_eval_N)
        self._train = self._part("train example", classes_N, ~is_eval_N)
        self._eval = self._part("eval example unlike all train examples", classes_N, is_eval_N & ~twin_N)
        # All train examples in one array, class after class, so that a draw is one look-up.
        self._flat = np.concatenate(self._train)
        self._sizes = np.array([len(part) for part in self._train])
        self._starts = np.cumsum(self._sizes) - self._sizes
        self.rows = self._count(int(twin_N.sum()))

    def _part(self, what: str, classes_N: Ints, is_chosen_N: NDArray[np.bool_]) -> list[Ints]:
        """Return the chosen examples of each class. Raises ValueError if a class has none."""
        parts = [np.flatnonzero(is_chosen_N & (classes_N == c)) for c in range(len(self._names))]
        for class_name, part in zip(self._names, parts, strict=True):
            if not len(part):
                raise ValueError(f"source.eval_share={self.eval_share}: {class_name!r} of {self.name} has no {what}")
        return parts

    def _count(self, twins: int) -> dict[str, int]:
        held = sum(len(part) for part in self._eval)
        counts = {"classes": len(self._names), "train examples": len(self._flat), "eval examples": held}
        return counts | ({"left out of eval, equal to a train example": twins} if twins else {})

    def families(self) -> Sequence[Sequence[int]]:
        # Examples of one class are unlike those of all others: every class is a family.
        return [[index] for index in range(len(self._names))]

    def class_name(self, index: int) -> str:
        return self._names[index]

    def entropy(self, classes: Ints) -> float:
        return float("nan")

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        """Draw a class for every example, evenly, then one of its train examples."""
        class_BK = rng.choice(classes, size=(rows, self.per_row(length=length)))
        # An example lies where its class begins, plus a drawn place within the class.
        return self._pack(self._flat[self._starts[class_BK] + rng.integers(self._sizes[class_BK])])

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        """Return fixed eval examples, evenly over classes and within each class.

        They repeat where the eval part has too few.
        """
        per_row = self.per_row(length=length)
        every = self.eval_examples(classes)
        if every <= rows * per_row < every + per_row:
            # All of them once, and the first ones again to fill the last row: an even spread over
            # classes of different sizes would skip some.
            whole = np.resize(np.concatenate([self._eval[c] for c in classes]), rows * per_row)
            return self._pack(_shuffled(whole).reshape(rows, per_row))
        # Each class gives about as many examples; a class with fewer gives some of them again.
        picked, counts = np.unique(classes[spread(rows * per_row, over=len(classes))], return_counts=True)
        parts = [self._eval[c][spread(count, over=len(self._eval[c]))] for c, count in zip(picked, counts, strict=True)]
        return self._pack(_shuffled(np.concatenate(parts)).reshape(rows, per_row))

    def eval_examples(self, classes: Ints) -> int:
        return sum(len(self._eval[c]) for c in classes)

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        return np.concatenate([self._train[c] for c in classes])

    def take(self, units: Ints, *, length: int) -> Batch:
        assert units.shape[1] <= self.per_row(length=length)
        return self._pack(units)


def _shuffled(examples: Ints) -> Ints:
    # In a fixed random order, so that the place of an example does not reveal its label.
    return np.random.default_rng(EVAL_ORDER).permutation(examples)


def last_share(classes_N: Ints, share: float) -> NDArray[np.bool_]:
    """Mark the last `share` of every class [N], rounded to whole examples."""
    is_last_N = np.zeros(len(classes_N), dtype=bool)
    for c in np.unique(classes_N):
        members = np.flatnonzero(classes_N == c)
        # Not members[-n:], which would be all of them for n = 0.
        is_last_N[members[len(members) - round(share * len(members)) :]] = True
    return is_last_N


def seen_in_train(tokens_NL: NDArray[np.generic], is_eval_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the eval examples [N] that equal a train example, whatever their labels."""
    # As bytes, which can be looked up in a set.
    rows = [row.tobytes() for row in np.ascontiguousarray(tokens_NL)]
    train = {row for row, is_eval in zip(rows, is_eval_N, strict=True) if not is_eval}
    return np.array([bool(is_eval) and row in train for row, is_eval in zip(rows, is_eval_N, strict=True)], dtype=bool)
