"""Synthetic recall: a world maps keys to values at random, a sequence shows pairs drawn from it.

    world 7      k0->v3  k1->v0  k2->v5 ...
    a sequence   k2 v5 k0 v3 k2 v5 k1 v0 ...     only the values are scored

Nothing predicts what a world maps: the model reads it in the context, or stores it in slow weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import numpy as np
from annotated_types import Ge

from ttt.stream import IGNORE, Batch, Ints, spread, whole_rows
from ttt.tasks.machinery.endless import Endless

# Part of the key of every eval generator, so that training cannot draw the same sequences.
EVAL = 1


class Recall(Endless):
    """One class per world. Tokens 0..K-1 are keys, K..K+V-1 values; a cipher renames the keys."""

    def __init__(
        self,
        *,
        name: str,
        num_keys: Annotated[int, Ge(2)],
        num_values: Annotated[int, Ge(2)],
        num_worlds: Annotated[int, Ge(2)],
        world_seed: Annotated[int, Ge(0)],
    ) -> None:
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
        # One generator per world: its rows do not depend on what other worlds are in a task.
        worlds = classes[spread(rows, over=len(classes))]
        runs = [np.array(list(run)) for _, run in groupby(worlds)]
        keys = [[self._seed, int(run[0]), EVAL] for run in runs]
        batches = [
            self._pairs(run, length=length, rng=np.random.default_rng(key)) for run, key in zip(runs, keys, strict=True)
        ]
        return Batch.stack(batches)

    def entropy(self, classes: Ints) -> float:
        """Return 0 bits: whoever knows the world knows every value."""
        return 0.0

    def show(self, tokens: Ints) -> str:
        names = [f"k{t}" if t < self._num_keys else f"v{t - self._num_keys}" for t in tokens]
        return " ".join("→".join(names[i : i + 2]) for i in range(0, len(names), 2))

    def _pairs(self, worlds_B: Ints, *, length: int, rng: np.random.Generator) -> Batch:
        # The window holds length + 1 tokens: the inputs, and the last target.
        keys = rng.integers(0, self._num_keys, size=(len(worlds_B), length // 2 + 1))
        pairs = np.stack([keys, self._map[worlds_B[:, None], keys]], axis=-1)
        window = pairs.reshape(len(worlds_B), -1)[:, : length + 1]
        targets = window[:, 1:].copy()
        # Keys are random: a score of them would only add the same noise to every model.
        targets[:, 1::2] = IGNORE
        return whole_rows(window[:, :-1], targets)
