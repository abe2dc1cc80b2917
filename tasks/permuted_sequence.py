"""`permuted-sequence`: the same data in every task, under a permutation of the task's own.

    symbols      a cipher: every token is renamed to another      all human ... -> qvv xsyql ...
    positions    the tokens of an example in another order, the same in all examples of the task

Labels are never permuted. The base sees many other permutations, one in each row: what it can learn
is to adapt. Permuted MNIST (Goodfellow et al. 2013, arXiv 1312.6211), for token sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from ttt.stream import HasAnswers, Ints, Source, Stream
from ttt.tasks.machinery.cut import ALTER, BASE, CHOOSE, LEARN, SourceView
from ttt.tasks.machinery.settings import StreamSettings, hold_out


@dataclass(frozen=True, kw_only=True)
class PermutedSequence(StreamSettings):
    """Arguments are explained in conf/task/permuted-sequence.yaml."""

    permute: Literal["symbols", "positions"]
    classes: Annotated[int, Ge(1)] | None
    base_permutations: Annotated[int, Ge(0)]

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        self._check(source)
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same outputs")
        classes, rest = self._classes(source, seed=seed, base_seed=base_seed)
        tasks = [
            self.task(
                [self._view(source, classes, [seed, ALTER, i])], name=f"permutation {i + 1}", key=[seed, LEARN, i]
            )
            for i in range(self.needed("num_tasks"))
        ]
        # The base's permutations come from its own seed, so that all runs share it.
        views = [self._view(source, rest, [base_seed, BASE, i]) for i in range(self.base_permutations)]
        plain = [SourceView(source=source, classes=rest)]
        base = self.base(views or plain, base_seed=base_seed, key=BASE)
        stream = self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)
        # Under a cipher a token stands for the bytes of another one, in each task for others.
        return replace(stream, token_bytes=None) if self.permute == "symbols" else stream

    def _check(self, source: Source) -> None:
        if self.permute == "positions" and source.example_len is None:
            raise ValueError(
                f"task.permute=positions: source={source.name} is running text, without positions that examples "
                "share; use task.permute=symbols, or a source of examples (digits, mnist)"
            )
        if self.permute == "positions" and isinstance(source, HasAnswers):
            raise ValueError(
                f"task.permute=positions: examples of source={source.name} differ in length; use task.permute=symbols"
            )
        if self.permute == "symbols" and source.vector_size is not None:
            raise ValueError("task.permute=symbols: vectors have no symbols; use task.permute=positions")

    def _classes(self, source: Source, *, seed: int, base_seed: int) -> tuple[Ints, Ints]:
        """Return the classes to permute, and those that the base sees.

        The base sees the same classes where all are permuted, and others where only some are.
        """
        families = source.families()
        count = self.classes if self.classes is not None else (len(families) if len(source.labels) else 1)
        if count > len(families):
            raise ValueError(
                f"task.classes={count}: source={source.name} has {len(families)} unrelated classes; "
                f"type task.classes={len(families)} or less"
            )
        if count == len(families):
            every = np.arange(sum(len(family) for family in families))
            return every, every
        held, rest = hold_out(source, wanted=None, needed=count, base_seed=base_seed)
        # The base's seed decides what may be permuted, the run's seed what of it is.
        chosen = np.random.default_rng([seed, CHOOSE]).permutation(held)[:count]
        return np.array([families[f][0] for f in chosen]), np.array(rest, dtype=np.int64)

    def _view(self, source: Source, classes: Ints, key: list[int]) -> SourceView:
        """Return the classes under the permutation that `key` draws."""
        rng = np.random.default_rng(key)
        if self.permute == "positions":
            size = source.vector_size or source.example_len
            assert size is not None
            return SourceView(source=source, classes=classes, order_L=rng.permutation(size))
        names_V = np.arange(source.vocab_size)
        # Labels are no symbols, so they keep their names.
        names_V[list(source.symbols)] = rng.permutation(list(source.symbols))
        return SourceView(source=source, classes=classes, names_V=names_V)
