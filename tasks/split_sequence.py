"""`split-sequence`: a source cut by its classes, a few per task, held out from the base.

    base      over 400 languages, mixed
    task 1    Bulu            task 2    Quechua (Ayacucho)            ...            task 10    Maltese

`base.seed` says which classes are held out; `seed` says which of them become tasks, and in which order.
So runs with different seeds see different streams and still share one pretrained base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ttt.stream import Batch, Source, Stream

# Part of every generator's key, so that no two purposes ever share random numbers.
HOLD_OUT, CHOOSE, BASE, LEARN = range(4)
FINGERPRINT_STEPS = 2


class ClassTask:
    """Sequences of some classes of a source; the batch at `step` depends on (key, step) alone."""

    def __init__(
        self,
        source: Source,
        *,
        classes: Sequence[int],
        key: Sequence[int],
        batch_size: int,
        seq_len: int,
        eval_sequences: int,
    ) -> None:
        self.name = " + ".join(source.class_name(c) for c in classes[:3]) + (" ..." if len(classes) > 3 else "")
        self._source = source
        self._classes = np.asarray(classes)
        self._key = list(key)
        self._batch_size = batch_size
        self._seq_len = seq_len
        self._eval_sequences = eval_sequences
        self.fingerprint = self._fingerprint()

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([*self._key, step])
        classes = rng.choice(self._classes, size=self._batch_size)
        return self._source.draw(classes, length=self._seq_len, rng=rng)

    def evaluation(self) -> Batch:
        # With more classes than rows (the base), one row for each of some, evenly picked.
        some = min(len(self._classes), self._eval_sequences)
        classes = self._classes[np.linspace(0, len(self._classes) - 1, some).astype(int)]
        counts = [len(part) for part in np.array_split(np.arange(self._eval_sequences), len(classes))]
        parts = [
            self._source.evaluation(int(c), count=count, length=self._seq_len)
            for c, count in zip(classes, counts, strict=True)
        ]
        return Batch.stack(parts)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for batch in (*map(self.batch, range(FINGERPRINT_STEPS)), self.evaluation()):
            digest.update(batch.tokens_BT.numpy().tobytes())
            digest.update(batch.targets_BT.numpy().tobytes())
        return digest.hexdigest()


class SplitSequence:
    """Builds the stream; arguments are explained in conf/task/split-sequence.yaml."""

    def __init__(
        self,
        *,
        name: str,
        num_tasks: int,
        classes_per_task: int,
        held_out: int,
        seq_len: int,
        batch_size: int,
        steps_per_task: int,
        eval_sequences: int,
    ) -> None:
        sizes = {
            "num_tasks": num_tasks,
            "classes_per_task": classes_per_task,
            "held_out": held_out,
            "batch_size": batch_size,
            "steps_per_task": steps_per_task,
            "eval_sequences": eval_sequences,
        }
        for argument, value in sizes.items():
            if value < 1:
                raise ValueError(f"task.{argument}={value}: must be at least 1")
        if seq_len < 2:
            raise ValueError(f"task.seq_len={seq_len}: must be at least 2")
        if num_tasks * classes_per_task > held_out:
            raise ValueError(
                f"task.num_tasks={num_tasks} with task.classes_per_task={classes_per_task} needs "
                f"{num_tasks * classes_per_task} classes, but task.held_out={held_out} keeps only that many "
                "out of the base"
            )
        self.name = name
        self._num_tasks, self._per_task, self._held_out = num_tasks, classes_per_task, held_out
        self._steps_per_task = steps_per_task
        self._shape = {"batch_size": batch_size, "seq_len": seq_len, "eval_sequences": eval_sequences}

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        """Cut `source`. Raises ValueError when it has too few classes."""
        families = source.families()
        if self._held_out >= len(families):
            raise ValueError(
                f"task.held_out={self._held_out}: the source has {len(families)} unrelated classes, "
                "and at least one must stay for the base"
            )
        order = np.random.default_rng([base_seed, HOLD_OUT]).permutation(len(families))
        held = order[: self._held_out]
        base_classes = [c for f in sorted(order[self._held_out :]) for c in families[f]]
        rng = np.random.default_rng([seed, CHOOSE])
        # One class of a family only: its relatives are in no task and not in the base.
        chosen = [families[f][0] for f in rng.permutation(held)[: self._num_tasks * self._per_task]]
        groups = [chosen[i :: self._num_tasks] for i in range(self._num_tasks)]
        return Stream(
            base=self._task(source, base_classes, key=[base_seed, BASE]),
            tasks=[self._task(source, g, key=[seed, LEARN, i]) for i, g in enumerate(groups)],
            vocab_size=source.vocab_size,
            seq_len=self._shape["seq_len"],
            steps_per_task=self._steps_per_task,
        )

    def _task(self, source: Source, classes: Sequence[int], *, key: Sequence[int]) -> ClassTask:
        return ClassTask(source, classes=classes, key=key, **self._shape)
