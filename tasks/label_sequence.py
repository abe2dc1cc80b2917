"""`label-sequence`: random labels to memorise, task after task; a test of plasticity.

    task 1    image 17 -> 3   image 4 -> 0   ...        task 2    image 17 -> 8   image 4 -> 1   ...

Nothing can generalise: a task is learned by storing it in the weights, and a network that stays
plastic stores the two hundredth task as fast as the first. A task is scored on its own training
examples. (Lyle et al. 2023, arXiv 2303.01486; Kumar et al. 2023, arXiv 2308.11958.)

Shapes: N examples, L tokens of an example, K examples in a row, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from ttt.stream import IGNORE, Batch, Ints, Source, Stream, mix_rows, whole_rows
from ttt.tasks.machinery.cut import ALTER, BASE, LEARN, extended_show
from ttt.tasks.machinery.drawn import Sizes, fingerprint
from ttt.tasks.machinery.settings import StreamSettings

# The base mixes so many labellings, each of examples of its own: it can learn how a row is laid out
# and how to memorise, but no label of a task.
BASE_LABELLINGS = 200


@dataclass(frozen=True, kw_only=True)
class LabelSequence(StreamSettings):
    """Arguments are explained in conf/task/label-sequence.yaml."""

    num_examples: Annotated[int, Ge(1)]
    num_labels: Annotated[int, Ge(2)]
    example_len: Annotated[int, Ge(1)]
    inputs: Literal["same", "new"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passes is not None:
            raise ValueError(f"task.steps_per_task={self.steps_per_task}: to memorise takes many passes; give a number")

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same labels")
        if source.vector_size is not None:
            raise ValueError(f"task={self.name}: takes tokens; use source.read_as=tokens with a model that reads them")
        sizes = self._label_sizes(source)
        is_same = self.inputs == "same"
        tasks = []
        for i in range(self.needed("num_tasks")):
            # Inputs and labels have keys of their own: the same inputs can get new labels.
            contents = self._contents(source, key=[seed, ALTER, 0 if is_same else i])
            table = self._labelled(contents, source, key=[seed, LEARN, i])
            tasks.append(LabelTask([table], name=f"labels {i + 1}", key=[seed, LEARN, i], sizes=sizes))
        base_tables = [
            self._labelled(self._contents(source, key=[base_seed, BASE, i]), source, key=[base_seed, BASE, i])
            for i in range(BASE_LABELLINGS)
        ]
        return Stream(
            base=LabelTask(base_tables, name="base", key=[base_seed, BASE], sizes=sizes),
            tasks=tasks,
            phases=self.phases(tasks, seed=seed),
            vocab_size=source.vocab_size + self.num_labels,
            seq_len=self.seq_len,
            scenario=scenario,
            show=extended_show(source, extra=lambda label: f" -> {label}\n"),
        )

    def _content_len(self, source: Source) -> int:
        return source.example_len or self.example_len

    def _label_sizes(self, source: Source) -> Sizes:
        """Return sizes with whole examples in a row, and eval rows for every example."""
        width = self._content_len(source) + 1
        fit = (self.seq_len + 1) // width
        if fit < 1:
            raise ValueError(
                f"task.seq_len={self.seq_len}: shorter than one example of {width - 1} tokens and its label"
            )
        if self.examples is not None and self.examples > fit:
            raise ValueError(f"task.examples={self.examples}: only {fit} fit into task.seq_len={self.seq_len}")
        in_row = min(self.examples or fit, self.num_examples)
        # The division rounds up, so that every example is in the eval part.
        rows = -(-self.num_examples // in_row)
        return Sizes(batch_size=self.batch_size, length=in_row * width - 1, eval_sequences=rows)

    def _contents(self, source: Source, *, key: Sequence[int]) -> Ints:
        """Draw examples without their labels [N, L], from the train part."""
        every = np.arange(sum(len(family) for family in source.families()))
        rng = np.random.default_rng([*key, ALTER])
        batch = source.draw(every, rows=self.num_examples, length=self._content_len(source), rng=rng)
        return batch.tokens_BT.numpy()

    def _labelled(self, contents_NL: Ints, source: Source, *, key: Sequence[int]) -> Ints:
        """Return the examples with random labels after them, [N, L + 1]."""
        rng = np.random.default_rng([*key, LEARN])
        labels = source.vocab_size + rng.integers(0, self.num_labels, size=(len(contents_NL), 1))
        return np.concatenate([contents_NL, labels], axis=1)


class LabelTask:
    """Rows of labelled examples, each row from one of `tables`, without repeats in a row.

    Entropy 0: a perfect memory knows every label.
    """

    entropy = 0.0

    def __init__(self, tables: Sequence[Ints], *, name: str, key: Sequence[int], sizes: Sizes) -> None:
        self.name = name
        self._tables, self._key, self._sizes = tables, list(key), sizes
        self._in_row = (sizes.length + 1) // tables[0].shape[1]
        self.fingerprint = fingerprint(self.batch, self.evaluation)

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([*self._key, step])
        table_B = rng.integers(0, len(self._tables), size=self._sizes.batch_size)

        def draw(index: int, count: int) -> Batch:
            # No repeats in a row: the first copy would give the label of the second away.
            chosen = [rng.permutation(len(self._tables[index]))[: self._in_row] for _ in range(count)]
            return self._packed(self._tables[index][np.stack(chosen)])

        return mix_rows(table_B, draw)

    def evaluation(self) -> Batch:
        """Return every example of the first table once; the first ones again fill the last row."""
        examples = self._tables[0]
        rows = -(-len(examples) // self._in_row)
        places = np.arange(rows * self._in_row) % len(examples)
        return self._packed(examples[places.reshape(-1, self._in_row)])

    def _packed(self, examples_BKL: Ints) -> Batch:
        """Return examples [B, K, L + 1] as rows in which only labels are scored."""
        width = examples_BKL.shape[-1]
        window = examples_BKL.reshape(len(examples_BKL), -1)
        targets = np.full_like(window, IGNORE)
        # Every `width`-th token is a label.
        targets[:, width - 1 :: width] = window[:, width - 1 :: width]
        return whole_rows(window[:, :-1], targets[:, 1:])
