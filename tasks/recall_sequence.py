"""`recall-sequence`: facts planted in a source's sequences, asked for far behind.

    ...haystack...  k2 v7 k0 v1  ...haystack, `distance` tokens...  k0 v1 k2 v7       only these last values are scored

Keys and values are tokens of their own behind the source's; what a key maps to is drawn for every sequence, so
slow weights can learn how to recall but never what. A task is a distance and a number of facts. Beyond the
attention window only what is carried in fast weights answers. The base mixes all distances and numbers of facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ttt.stream import IGNORE, Batch, Ints, Source, Stream, whole_rows
from ttt.tasks.machinery.cut import BASE, LEARN, PLANT, Sizes, fingerprint, shown
from ttt.tasks.machinery.settings import StreamSettings

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class RecallSequence(StreamSettings):
    """Arguments are explained in conf/task/recall-sequence.yaml."""

    distances: list[int]
    facts: list[int]
    num_keys: int
    num_values: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument, least in {"distances": 0, "facts": 1}.items():
            values = getattr(self, argument)
            if not values or min(values) < least:
                raise ValueError(f"task.{argument}={values}: must be numbers of at least {least}")
        for argument in ("num_keys", "num_values"):
            if getattr(self, argument) < 2:
                raise ValueError(f"task.{argument}={getattr(self, argument)}: must be at least 2")
        if max(self.facts) > self.num_keys:
            raise ValueError(f"task.facts={max(self.facts)}: there are only task.num_keys={self.num_keys} keys")
        needed = max(self.distances) + 4 * max(self.facts) - 1
        if needed > self.seq_len:
            raise ValueError(
                f"task.seq_len={self.seq_len}: {max(self.facts)} facts at a distance of {max(self.distances)} "
                f"take {needed} tokens"
            )
        if self.passes is not None:
            raise ValueError(
                f"task.steps_per_task={self.steps_per_task}: facts are made up as they are asked for; give a number"
            )

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        if source.example_len is not None:
            raise ValueError(
                f"task=recall-sequence: source={source.name} holds labelled examples; facts are planted in running "
                "text (languages, code, automata, ...)"
            )
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same values")
        grid = list(product(self.distances, self.facts))[: self.num_tasks]
        tasks = [
            PlantedTask(source, name=name(pair), pairs=[pair], key=[seed, LEARN, i], settings=self)
            for i, pair in enumerate(grid)
        ]
        mixed = list(product(range(max(self.distances) + 1), range(1, max(self.facts) + 1)))
        base = PlantedTask(source, name="base", pairs=mixed, key=[base_seed, BASE], settings=self)
        return Stream(
            base=base,
            tasks=tasks,
            phases=self.phases(tasks, seed=seed),
            vocab_size=source.vocab_size + self.num_keys + self.num_values,
            seq_len=self.seq_len,
            scenario=scenario,
            show=shown(source, extra=self._called),
        )

    def _called(self, token: int) -> str:
        return f" k{token} " if token < self.num_keys else f"v{token - self.num_keys} "


def name(pair: Pair) -> str:
    distance, facts = pair
    return f"{facts} fact{'s' * (facts > 1)} at distance {distance}"


class PlantedTask:
    """Each row has a distance and a number of facts out of `pairs`. Entropy 0: who remembers is certain."""

    entropy = 0.0

    def __init__(
        self, source: Source, *, name: str, pairs: list[Pair], key: list[int], settings: RecallSequence
    ) -> None:
        self.name = name
        self._source, self._pairs, self._key, self._settings = source, pairs, key, settings
        self._classes = np.arange(sum(len(family) for family in source.families()))
        self._sizes: Sizes = settings.sizes(source, self._classes)
        self.fingerprint = fingerprint(self)

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([*self._key, step])
        rows, length = self._sizes.batch_size, self._sizes.length
        return self._plant(self._source.draw(self._classes, rows=rows, length=length, rng=rng), rng)

    def evaluation(self) -> Batch:
        # The same facts in every run: how well a task is recalled must not depend on luck with them.
        rng = np.random.default_rng([PLANT, len(self._pairs), *self._pairs[0]])
        rows, length = self._sizes.eval_sequences, self._sizes.length
        return self._plant(self._source.evaluation(self._classes, rows=rows, length=length), rng)

    def _plant(self, haystack: Batch, rng: np.random.Generator) -> Batch:
        # The window is one longer than the row: its last token is only a target.
        hay = np.concatenate([haystack.tokens_BT.numpy(), haystack.tokens_BT.numpy()[:, :1]], axis=1)
        chosen = rng.integers(0, len(self._pairs), size=len(hay))
        scored = np.zeros(hay.shape, dtype=bool)
        for row, pair in enumerate(chosen):
            self._plant_row(hay[row], scored[row], self._pairs[pair], rng)
        return whole_rows(hay[:, :-1], np.where(scored, hay, IGNORE)[:, 1:])

    def _plant_row(self, window: Ints, scored: np.ndarray, pair: Pair, rng: np.random.Generator) -> None:
        """Overwrite `window` from its end: the questions, `distance` tokens of haystack before them, the facts."""
        distance, facts = pair
        first = self._source.vocab_size
        keys = first + rng.permutation(self._settings.num_keys)[:facts]
        values = first + self._settings.num_keys + rng.integers(0, self._settings.num_values, size=facts)
        told = np.stack([keys, values], axis=1)
        asked = told[rng.permutation(facts)]
        questions = len(window) - 2 * facts
        window[questions:] = asked.reshape(-1)
        scored[questions + 1 :: 2] = True
        told_at = questions - distance - 2 * facts
        window[told_at : told_at + 2 * facts] = told.reshape(-1)
