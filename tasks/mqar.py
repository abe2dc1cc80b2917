"""Multi-query associative recall: pairs at the head of a row, asked for again later.

    row       k7 v2 k4 v9 | k4 .. .. k7 .. ..      each `..` is a random token
    scored                  v9       v2

The generator of Zoology (Arora et al. 2023, arXiv 2312.04927): keys and values are drawn anew for
each row, no two of a row are equal, and most queries come soon. Nothing but the row itself says
which value belongs to a key. Shapes: B rows, T time, D pairs, G places for a query.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from ttt.stream import IGNORE, Batch, Ints, spread, whole_rows
from ttt.tasks.machinery.endless import Endless

# Part of the key of every eval generator, so that training cannot draw the same sequences.
EVAL = 1


class Mqar(Endless):
    """One class for each number of pairs. Token 0 is never a key; the upper half are values.

    Arguments are explained in conf/source/mqar.yaml.
    """

    def __init__(
        self,
        *,
        name: str,
        vocab: Annotated[int, Ge(4)],
        pairs: list[Annotated[int, Ge(1)]],
        power: Annotated[float, Gt(0)],
        present: bool,
    ) -> None:
        # The control needs as many values again, which stand nowhere.
        if not pairs or len({*pairs}) < len(pairs) or 2 * max(pairs) > vocab // 2 - 1:
            raise ValueError(
                f"source.pairs={pairs}: must be different numbers, at most {(vocab // 2 - 1) // 2} with "
                f"source.vocab={vocab}"
            )
        self.name, self.vocab_size, self._pairs, self._power, self._present = name, vocab, pairs, power, present
        self.symbols, self.rows = range(0), dict[str, int]()
        self.fingerprint = hashlib.sha256(json.dumps(["mqar", vocab, pairs, power, present]).encode()).hexdigest()

    def families(self) -> Sequence[Sequence[int]]:
        return [[index] for index in range(len(self._pairs))]

    def class_name(self, index: int) -> str:
        return f"{self._pairs[index]} pairs"

    def distances(self, index: int, *, length: int) -> tuple[int, int]:
        """Return how many tokens before its query a pair of this class stands: least and most."""
        return 1, length

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        return self._rows(rng.choice(classes, size=rows), length, rng)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        class_B = classes[spread(rows, over=len(classes))]
        return self._rows(class_B, length, np.random.default_rng([EVAL, int(classes[0])]))

    def entropy(self, classes: Ints) -> float:
        """Return 0 bits where the pairs stand in the row."""
        return 0.0 if self._present else float("nan")

    def show(self, tokens: Ints) -> str:
        half = self.vocab_size // 2
        return " ".join(f"k{t}" if t < half else f"v{t - half}" for t in tokens)

    def _rows(self, class_B: Ints, length: int, rng: np.random.Generator) -> Batch:
        most = max(self._pairs[index] for index in class_B)
        if length < 4 * most:
            raise ValueError(f"task.seq_len={length}: {most} pairs and their queries take at least {4 * most} tokens")
        tokens, targets = zip(*(self._row(self._pairs[index], length, rng) for index in class_B), strict=True)
        return whole_rows(np.stack(tokens), np.stack(targets))

    def _row(self, pairs: int, length: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        half = self.vocab_size // 2
        key_D = rng.choice(np.arange(1, half), size=pairs, replace=False)
        value_D = rng.choice(np.arange(half, self.vocab_size), size=2 * pairs, replace=False)
        right_D = value_D[:pairs] if self._present else value_D[pairs:]
        # The density of a power law: a place far behind the pairs is asked less often.
        weight_G = np.arange(1, (length - 2 * pairs) // 2 + 1) ** (self._power - 1.0)
        # A place has two positions: that of the key, and the one where its value would stand.
        place_D = 2 * pairs + 2 * rng.choice(len(weight_G), size=pairs, replace=False, p=weight_G / weight_G.sum())
        # What stands between the queries may look like keys and values, as in Zoology.
        tokens = rng.integers(0, self.vocab_size, size=length)
        tokens[: 2 * pairs] = np.stack([key_D, value_D[:pairs]], axis=-1).reshape(-1)
        tokens[place_D] = key_D
        targets = np.full(length, IGNORE)
        targets[place_D] = right_D
        return tokens, targets
