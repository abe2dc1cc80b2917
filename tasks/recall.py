"""Synthetic recall: a world maps keys to values at random, a sequence shows pairs drawn from it.

    world 7      k0->v3  k1->v0  k2->v5 ...
    a sequence   k2 v5 k0 v3 k2 v5 k1 v0 ...     only the values are scored

What a world maps cannot be known beforehand: it is read from the context, or stored in slow weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ttt.stream import IGNORE, Batch, whole_rows

EVAL = 1


class Recall:
    """One class per world. Tokens 0..K-1 are keys, K..K+V-1 are values."""

    def __init__(self, *, name: str, num_keys: int, num_values: int, num_worlds: int, world_seed: int) -> None:
        for argument, value in (("num_keys", num_keys), ("num_values", num_values), ("num_worlds", num_worlds)):
            if value < 2:
                raise ValueError(f"source.{argument}={value}: must be at least 2")
        self.name = name
        self.vocab_size = num_keys + num_values
        self._num_keys = num_keys
        self._seed = world_seed
        rng = np.random.default_rng(world_seed)
        self._map = rng.integers(num_keys, self.vocab_size, size=(num_worlds, num_keys))
        self.fingerprint = hashlib.sha256(self._map.tobytes()).hexdigest()

    def families(self) -> Sequence[Sequence[int]]:
        return [[index] for index in range(len(self._map))]

    def class_name(self, index: int) -> str:
        return f"world {index}"

    def draw(self, classes: np.ndarray, *, length: int, rng: np.random.Generator) -> Batch:
        keys = rng.integers(0, self._num_keys, size=(len(classes), length // 2 + 1))
        pairs = np.stack([keys, self._map[classes[:, None], keys]], axis=-1)
        window = pairs.reshape(len(classes), -1)[:, : length + 1]
        targets = window[:, 1:].copy()
        targets[:, 1::2] = IGNORE
        return whole_rows(window[:, :-1], targets)

    def evaluation(self, index: int, *, count: int, length: int) -> Batch:
        rng = np.random.default_rng([self._seed, index, EVAL])
        return self.draw(np.full(count, index), length=length, rng=rng)
