"""`recall-sequence`: facts planted in a source's sequences, and questions about them much later.

    ...haystack...  k2 v7 k0 v1  ...haystack, `distance` tokens...  k0 v1 k2 v7
                    facts                                           only these values are scored

Keys and values are tokens of their own, numbered after the source's tokens. The value of a key is
drawn for every sequence, so slow weights can learn how to recall but never what. A task is a
distance and a number of facts. Beyond the attention window only fast weights can carry the answer.
The base mixes all distances and numbers of facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
from annotated_types import Ge

from ttt.stream import IGNORE, Batch, Ints, Source, Stream, whole_rows
from ttt.tasks.machinery.cut import BASE, LEARN, PLANT, extended_show
from ttt.tasks.machinery.drawn import Sizes, fingerprint
from ttt.tasks.machinery.settings import ALL, StreamSettings

# Distance in tokens, number of facts.
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class RecallSequence(StreamSettings):
    """Arguments are explained in conf/task/recall-sequence.yaml."""

    distances: list[Annotated[int, Ge(0)]]
    facts: list[Annotated[int, Ge(1)]]
    num_keys: Annotated[int, Ge(2)]
    num_values: Annotated[int, Ge(2)]

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("distances", "facts"):
            if not getattr(self, argument):
                raise ValueError(f"task.{argument}=[]: needs at least one number")
        if max(self.facts) > self.num_keys:
            raise ValueError(f"task.facts={max(self.facts)}: there are only task.num_keys={self.num_keys} keys")
        # Facts and questions take two tokens each; the last value is a target only.
        needed = max(self.distances) + 4 * max(self.facts) - 1
        if needed > self.seq_len:
            raise ValueError(
                f"task.seq_len={self.seq_len}: {max(self.facts)} facts at a distance of {max(self.distances)} "
                f"take {needed} tokens"
            )
        if self.passes is not None:
            raise ValueError(
                f"task.steps_per_task={self.steps_per_task}: facts are drawn without end, so there is no "
                "whole pass; give a number"
            )
        if self.eval_sequences == ALL:
            raise ValueError(f"task.eval_sequences={ALL}: facts are drawn without end; give a number")

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        if source.example_len is not None:
            raise ValueError(
                f"task=recall-sequence: source={source.name} holds labelled examples; facts are planted in running "
                "text (languages, code, automata, ...)"
            )
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same values")
        grid = list(product(self.distances, self.facts))[: self.num_tasks]
        tasks = [
            PlantedTask(source, name=_pair_name(pair), pairs=[pair], key=[seed, LEARN, i], settings=self)
            for i, pair in enumerate(grid)
        ]
        # Every distance up to the longest, not those of the tasks alone: the base must not learn to
        # look at a few fixed distances.
        mixed = list(product(range(max(self.distances) + 1), range(1, max(self.facts) + 1)))
        return Stream(
            base=PlantedTask(source, name="base", pairs=mixed, key=[base_seed, BASE], settings=self),
            tasks=tasks,
            phases=self.phases(tasks, seed=seed),
            vocab_size=source.vocab_size + self.num_keys + self.num_values,
            seq_len=self.seq_len,
            scenario=scenario,
            show=extended_show(source, extra=self._show_token),
        )

    def _show_token(self, token: int) -> str:
        return f" k{token} " if token < self.num_keys else f"v{token - self.num_keys} "


class PlantedTask:
    """Rows with planted facts; each row has a distance and a number of facts out of `pairs`.

    Entropy 0: a perfect memory knows every answer.
    """

    entropy = 0.0

    def __init__(
        self, source: Source, *, name: str, pairs: list[Pair], key: list[int], settings: RecallSequence
    ) -> None:
        self.name = name
        self._source, self._pairs, self._key, self._settings = source, pairs, key, settings
        self._classes = np.arange(sum(len(family) for family in source.families()))
        self._sizes: Sizes = settings.sizes(source, self._classes)
        self.fingerprint = fingerprint(self.batch, self.evaluation)

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([*self._key, step])
        rows, length = self._sizes.batch_size, self._sizes.length
        return self._plant(self._source.draw(self._classes, rows=rows, length=length, rng=rng), rng)

    def evaluation(self) -> Batch:
        # The same facts in every run: how well a task is recalled must not depend on luck.
        rng = np.random.default_rng([PLANT, len(self._pairs), *self._pairs[0]])
        rows, length = int(self._settings.eval_sequences), self._sizes.length
        return self._plant(self._source.evaluation(self._classes, rows=rows, length=length), rng)

    def _plant(self, haystack: Batch, rng: np.random.Generator) -> Batch:
        tokens = haystack.tokens_BT.numpy()
        # A window is one token longer than a row, for the last target; that one is overwritten.
        window_BW = np.concatenate([tokens, tokens[:, :1]], axis=1)
        pair_B = rng.integers(0, len(self._pairs), size=len(window_BW))
        is_scored_BW = np.zeros(window_BW.shape, dtype=bool)
        for row, pair in enumerate(pair_B):
            self._plant_row(window_BW[row], is_scored_BW[row], self._pairs[pair], rng)
        return whole_rows(window_BW[:, :-1], np.where(is_scored_BW, window_BW, IGNORE)[:, 1:])

    def _plant_row(self, window_W: Ints, is_scored_W: np.ndarray, pair: Pair, rng: np.random.Generator) -> None:
        """Overwrite a window from its end: questions, `distance` tokens of haystack, facts."""
        distance, count = pair
        first = self._source.vocab_size
        keys = first + rng.permutation(self._settings.num_keys)[:count]
        values = first + self._settings.num_keys + rng.integers(0, self._settings.num_values, size=count)
        facts = np.stack([keys, values], axis=1)
        # In another order than the facts, so that a position does not give the answer away.
        questions = facts[rng.permutation(count)]
        questions_at = len(window_W) - 2 * count
        window_W[questions_at:] = questions.reshape(-1)
        # Keys and values alternate: from the first value on, every second token is a value.
        is_scored_W[questions_at + 1 :: 2] = True
        facts_at = questions_at - distance - 2 * count
        window_W[facts_at : facts_at + 2 * count] = facts.reshape(-1)


def _pair_name(pair: Pair) -> str:
    distance, facts = pair
    return f"{facts} fact{'s' * (facts > 1)} at distance {distance}"
