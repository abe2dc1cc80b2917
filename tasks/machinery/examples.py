"""Labelled examples packed into sequences: content tokens, then the label, example after example.

    two images of 16 tokens each, then their labels (256 and up are labels)
    tokens     0  17  84   3 ... 12  259    0   2  80 ...  7
    targets    .   .   .   . ...  259  .    .   .   . ...  257     only labels are scored; .: IGNORE

The examples of a sequence are one document: the earlier ones can be read in context.

Shapes: N examples, L tokens of an example before its label, B batch, T time, K examples in a row.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttt.stream import IGNORE, Batch, Ints, whole_rows
from ttt.tasks.machinery.parts import ExampleParts


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
class Examples(ExampleParts):
    """A source of labelled examples of one length; a subclass reads and shows them.

    Symbols are 0..S-1, and the label of class c is S + c.
    """

    labels: range = field(init=False)

    @abstractmethod
    def read(self) -> Labelled:
        """Return all examples. Raises ValueError in the user's words."""

    def __post_init__(self) -> None:
        examples = self.read()
        size = examples.num_symbols
        is_vector = examples.tokens_NL.dtype == np.float32
        # A vector is one position, whose target is its label: it has no tokens before the label.
        self._length = 0 if is_vector else examples.tokens_NL.shape[1]
        self.example_len, self.vector_size = self._length, examples.tokens_NL.shape[1] if is_vector else None
        self.symbols, self.labels = range(size), range(size, size + len(examples.class_names))
        self.vocab_size = self.labels.stop
        self._contents, self._targets_N = examples.tokens_NL, examples.classes_N + size
        self._split(examples.tokens_NL, examples.classes_N, examples.class_names, examples.is_eval_N)
        self.fingerprint = self._hash()

    def _hash(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self._contents).tobytes() + self._targets_N.tobytes())
        for part in (*self._train, *self._eval):
            # A separator, so that an example that moves from one part to the next shows.
            digest.update(part.tobytes() + b"|")
        return digest.hexdigest()

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
        # Content and label of each example lie side by side, [B, K, L + 1]; reshaped, examples
        # stand one after another.
        pairs = np.concatenate([self._contents[example_BK], self._targets_N[example_BK][..., None]], axis=-1)
        window = pairs.reshape(len(example_BK), -1).astype(np.int64)
        targets_BT = np.full((window.shape[0], window.shape[1] - 1), IGNORE)
        # A label is the target of the position before it.
        targets_BT[:, self._length - 1 :: self._length + 1] = window[:, self._length :: self._length + 1]
        return whole_rows(window[:, :-1], targets_BT)
