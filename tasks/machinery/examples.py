"""Labelled examples packed into sequences: content tokens, then the label, example after example.

    two images of 16 tokens each, then their labels (256 and up are labels)
    tokens     0  17  84   3 ... 12  259    0   2  80 ...  7
    targets    .   .   .   . ...  259  .    .   .   . ...  257     only labels are scored; .: IGNORE

The examples of a sequence are one document: the earlier ones can be read in context.

Shapes: N examples, L tokens of an example before its label, B batch, T time, K examples in a row.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from ttt.stream import IGNORE, Batch, Ints, spread, whole_rows

# The order of eval examples is part of the data: the same for every run.
EVAL_ORDER = 20240229


class Labelled(NamedTuple):
    """All examples of a source, with a class each.

    `tokens_NL`   numbers below `num_symbols`; of float32, an example is a vector without symbols
    `is_eval_N`   which examples are the eval part; None for the last ones of each class
    """

    tokens_NL: NDArray[np.generic]
    classes_N: Ints
    class_names: Sequence[str]
    num_symbols: int
    is_eval_N: NDArray[np.bool_] | None = None


@dataclass(kw_only=True, eq=False)
class Examples(ABC):
    """A source of labelled examples of one length; a subclass reads and shows them.

    Symbols are 0..S-1, and the label of class c is S + c. No example stands in both parts.
    """

    name: str
    eval_share: Annotated[float, Interval(gt=0, lt=1)]
    vocab_size: int = field(init=False)
    example_len: int | None = field(init=False)
    vector_size: int | None = field(init=False)
    symbols: range = field(init=False)
    labels: range = field(init=False)
    token_bytes: Ints | None = field(init=False, default=None)
    rows: dict[str, int] = field(init=False)
    fingerprint: str = field(init=False)

    @abstractmethod
    def read(self) -> Labelled:
        """Return all examples. Raises ValueError in the user's words."""

    @abstractmethod
    def show(self, tokens: Ints) -> str: ...

    def __post_init__(self) -> None:
        examples = self.read()
        self._names, size = list(examples.class_names), examples.num_symbols
        is_vector = examples.tokens_NL.dtype == np.float32
        # A vector is one position, whose target is its label: it has no tokens before the label.
        self._length = 0 if is_vector else examples.tokens_NL.shape[1]
        self.example_len, self.vector_size = self._length, examples.tokens_NL.shape[1] if is_vector else None
        self.symbols, self.labels = range(size), range(size, size + len(self._names))
        self.vocab_size = self.labels.stop
        self._contents, self._targets_N = examples.tokens_NL, examples.classes_N + size
        self._split(examples)
        self.fingerprint = self._hash()

    def _split(self, examples: Labelled) -> None:
        """Divide the examples into a train and an eval part of each class."""
        is_eval_N = examples.is_eval_N
        if is_eval_N is None:
            is_eval_N = last_share(examples.classes_N, self.eval_share)
        twin_N = seen_in_train(examples.tokens_NL, is_eval_N)
        self._train = self._part("train example", examples.classes_N, ~is_eval_N)
        self._eval = self._part("eval example unlike all train examples", examples.classes_N, is_eval_N & ~twin_N)
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

    def _hash(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self._contents).tobytes() + self._targets_N.tobytes())
        for part in (*self._train, *self._eval):
            # A separator, so that an example that moves from one part to the next shows.
            digest.update(part.tobytes() + b"|")
        return digest.hexdigest()

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

    def per_row(self, *, length: int) -> int:
        """Return how many examples fit into a sequence of `length` tokens.

        The last label takes no token, since it is a target only.
        """
        if self.vector_size is not None:
            return length
        fit = (length + 1) // (self._length + 1)
        if fit < 1:
            raise ValueError(
                f"task.seq_len={length}: shorter than one example of source={self.name} "
                f"({self._length} tokens and its label)"
            )
        return fit

    def _pack(self, example_BK: Ints) -> Batch:
        if self.vector_size is not None:
            return whole_rows(self._contents[example_BK], self._targets_N[example_BK])
        pairs = np.concatenate([self._contents[example_BK], self._targets_N[example_BK][..., None]], axis=-1)
        window = pairs.reshape(len(example_BK), -1).astype(np.int64)
        targets_BT = np.full((window.shape[0], window.shape[1] - 1), IGNORE)
        # A label is the target of the position before it.
        targets_BT[:, self._length - 1 :: self._length + 1] = window[:, self._length :: self._length + 1]
        return whole_rows(window[:, :-1], targets_BT)


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
