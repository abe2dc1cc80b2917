"""`label-sequence`: random labels to memorise, task after task. The plasticity test of the literature.

    task 1    image 17 -> 3   image 4 -> 0   ...        task 2    image 17 -> 8   image 4 -> 1   ...

Nothing can generalise: a task is learned by storing it in the weights, and a network that stays plastic stores
the two hundredth as fast as the first. Scored on the very examples of the task. (Lyle et al. 2023, arXiv
2303.01486; Kumar et al. 2023, arXiv 2308.11958.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttt.stream import IGNORE, Batch, Ints, Source, Stream, gather, whole_rows
from ttt.tasks.machinery.cut import BASE, BEND, LEARN, Sizes, fingerprint, shown
from ttt.tasks.machinery.settings import StreamSettings

# Labellings that the base mixes.
BASE_LABELLINGS = 200


@dataclass(frozen=True, kw_only=True)
class LabelSequence(StreamSettings):
    """Arguments are explained in conf/task/label-sequence.yaml."""

    num_examples: int
    num_labels: int
    example_len: int
    inputs: str

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument, least in {"num_examples": 1, "num_labels": 2, "example_len": 1}.items():
            if getattr(self, argument) < least:
                raise ValueError(f"task.{argument}={getattr(self, argument)}: must be at least {least}")
        if self.inputs not in ("same", "new"):
            raise ValueError(f"task.inputs={self.inputs}: must be one of same, new")
        if self.passes is not None:
            raise ValueError(f"task.steps_per_task={self.steps_per_task}: to memorise takes many passes; give a number")

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same labels")
        if source.vector_size is not None:
            raise ValueError(f"task={self.name}: takes tokens; use source.read_as=tokens with a model that reads them")
        same = self.inputs == "same"
        sets = [self.examples_of(source, key=[seed, BEND, 0 if same else i]) for i in range(self.needed("num_tasks"))]
        tasks = [
            LabelTask([self.labelled(x, source, key=[seed, LEARN, i])], name=f"labels {i + 1}", key=[seed, LEARN, i],
                      sizes=self.label_sizes(source))
            for i, x in enumerate(sets)
        ]  # fmt: skip
        others = [
            self.labelled(self.examples_of(source, key=[base_seed, BASE, i]), source, key=[base_seed, BASE, i])
            for i in range(BASE_LABELLINGS)
        ]
        return Stream(
            base=LabelTask(others, name="base", key=[base_seed, BASE], sizes=self.label_sizes(source)),
            tasks=tasks,
            phases=self.phases(tasks, seed=seed),
            vocab_size=source.vocab_size + self.num_labels,
            seq_len=self.seq_len,
            scenario=scenario,
            show=shown(source, extra=lambda label: f" -> {label}\n"),
        )

    def content_len(self, source: Source) -> int:
        return source.example_len or self.example_len

    def label_sizes(self, source: Source) -> Sizes:
        """Whole examples in a row, and rows enough that the eval part is every example once."""
        width = self.content_len(source) + 1
        fit = (self.seq_len + 1) // width
        if fit < 1:
            raise ValueError(
                f"task.seq_len={self.seq_len}: shorter than one example of {width - 1} tokens and its label"
            )
        if self.examples is not None and self.examples > fit:
            raise ValueError(f"task.examples={self.examples}: only {fit} fit into task.seq_len={self.seq_len}")
        in_row = min(self.examples or fit, self.num_examples)
        rows = -(-self.num_examples // in_row)
        return Sizes(batch_size=self.batch_size, length=in_row * width - 1, eval_sequences=rows)

    def examples_of(self, source: Source, *, key: Sequence[int]) -> Ints:
        """Contents without labels, [num_examples, L], from the train part."""
        every = np.arange(sum(len(family) for family in source.families()))
        rng = np.random.default_rng([*key, BEND])
        drawn = source.draw(every, rows=self.num_examples, length=self.content_len(source), rng=rng)
        return drawn.tokens_BT.numpy()

    def labelled(self, contents: Ints, source: Source, *, key: Sequence[int]) -> Ints:
        """Contents with random labels behind them, [num_examples, L + 1]."""
        rng = np.random.default_rng([*key, LEARN])
        labels = source.vocab_size + rng.integers(0, self.num_labels, size=(len(contents), 1))
        return np.concatenate([contents, labels], axis=1)


class LabelTask:
    """Rows of examples out of one of `sets`, no example twice in a row. Entropy 0: who memorised is certain."""

    entropy = 0.0

    def __init__(self, sets: Sequence[Ints], *, name: str, key: Sequence[int], sizes: Sizes) -> None:
        self.name = name
        self._sets, self._key, self._sizes = sets, list(key), sizes
        self._in_row = (sizes.length + 1) // sets[0].shape[1]
        self.fingerprint = fingerprint(self)

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([*self._key, step])
        which = rng.integers(0, len(self._sets), size=self._sizes.batch_size)

        def rows(index: int, count: int) -> Batch:
            chosen = [rng.permutation(len(self._sets[index]))[: self._in_row] for _ in range(count)]
            return self._packed(self._sets[index][np.stack(chosen)])

        return gather(which, rows)

    def evaluation(self) -> Batch:
        """Every example of the first set once; the last row is filled up with the first ones."""
        examples = self._sets[0]
        places = np.arange(self._sizes.eval_sequences * self._in_row) % len(examples)
        return self._packed(examples[places.reshape(-1, self._in_row)])

    def _packed(self, examples: Ints) -> Batch:
        """[B, in a row, L + 1] as sequences in which only labels are scored."""
        width = examples.shape[-1]
        window = examples.reshape(len(examples), -1)
        targets = np.full_like(window, IGNORE)
        targets[:, width - 1 :: width] = window[:, width - 1 :: width]
        return whole_rows(window[:, :-1], targets[:, 1:])
