"""Synthetic recall: a world maps keys to values at random, a sequence shows pairs drawn from it.

    world 7      k0->v3  k1->v0  k2->v5 ...
    a sequence   k2 v5 k0 v3 k2 v5 k1 v0 ...     only the values are scored

What a world maps cannot be known beforehand: it is read from the context, or stored in slow weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from ttt.stream import IGNORE, Batch, Ints, spread, whole_rows

EVAL = 1


class Recall:
    """One class per world. Tokens 0..K-1 are keys, K..K+V-1 are values; a cipher renames keys."""

    example_len: int | None = None
    vector_size: int | None = None
    labels = range(0)

    def __init__(self, *, name: str, num_keys: int, num_values: int, num_worlds: int, world_seed: int) -> None:
        for argument, value in (("num_keys", num_keys), ("num_values", num_values), ("num_worlds", num_worlds)):
            if value < 2:
                raise ValueError(f"source.{argument}={value}: must be at least 2")
        self.name = name
        self.vocab_size = num_keys + num_values
        self.symbols = range(num_keys)
        self.rows: dict[str, int] = {}
        self._num_keys = num_keys
        self._seed = world_seed
        rng = np.random.default_rng(world_seed)
        self._map = rng.integers(num_keys, self.vocab_size, size=(num_worlds, num_keys))
        self.fingerprint = hashlib.sha256(self._map.tobytes()).hexdigest()

    def families(self) -> Sequence[Sequence[int]]:
        return [[index] for index in range(len(self._map))]

    def class_name(self, index: int) -> str:
        return f"world {index}"

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        return self._pairs(rng.choice(classes, size=rows), length=length, rng=rng)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        same = [np.array(list(group)) for _, group in groupby(classes[spread(rows, over=len(classes))])]
        keys = [[self._seed, int(world[0]), EVAL] for world in same]
        return Batch.stack(
            [self._pairs(w, length=length, rng=np.random.default_rng(k)) for w, k in zip(same, keys, strict=True)]
        )

    def eval_examples(self, classes: Ints) -> int | None:
        return None

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        return None

    def take(self, units: Ints, *, length: int) -> Batch:
        raise AssertionError("recall has no units: sequences are made up as they are asked for")

    def per_row(self, *, length: int) -> int:
        raise AssertionError("recall has no units: sequences are made up as they are asked for")

    def entropy(self, classes: Ints) -> float:
        """Every value is certain for one who knows the world."""
        return 0.0

    def show(self, tokens: Ints) -> str:
        names = [f"k{t}" if t < self._num_keys else f"v{t - self._num_keys}" for t in tokens]
        return " ".join("→".join(names[i : i + 2]) for i in range(0, len(names), 2))

    def _pairs(self, worlds_B: Ints, *, length: int, rng: np.random.Generator) -> Batch:
        keys = rng.integers(0, self._num_keys, size=(len(worlds_B), length // 2 + 1))
        pairs = np.stack([keys, self._map[worlds_B[:, None], keys]], axis=-1)
        window = pairs.reshape(len(worlds_B), -1)[:, : length + 1]
        targets = window[:, 1:].copy()
        targets[:, 1::2] = IGNORE
        return whole_rows(window[:, :-1], targets)
