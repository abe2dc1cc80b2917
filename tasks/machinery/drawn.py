"""Tasks whose sequences are drawn from views of a source, at random or in whole passes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ttt.stream import Batch, Tagged, mix_rows, spread
from ttt.tasks.machinery.cut import SourceView
from ttt.tasks.machinery.passes import Passes, train_units

# A fingerprint hashes this many batches: two tasks that agree on them and on their eval part are
# taken for the same.
FINGERPRINT_STEPS = 2
# The tag of a task whose classes are of several kinds.
MIXED = "mixed"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much a task returns: rows of a batch and of the eval part, and tokens of a row.

    `eval_sequences`: None for running text whose eval part is read from end to end.
    `passes`: how often each visit reads the train part; None where rows are drawn at random.
    `train_tokens`: how many tokens of the train part each pass reads; None for all.
    """

    batch_size: int
    length: int
    eval_sequences: int | None
    passes: int | None = None
    train_tokens: int | None = None


class DrawnTask:
    """Sequences of some views, each row of one view; a batch depends on (key, step) alone."""

    def __init__(self, views: Sequence[SourceView], *, name: str, key: Sequence[int], sizes: Sizes) -> None:
        self.name = name
        self._views, self._key, self._sizes = list(views), list(key), sizes
        self._passes: Passes | None = None
        batch = self._draw
        if sizes.passes is not None:
            # With several views a pass would have to say how often it reads each of them.
            (view,) = views
            units = train_units(view, length=sizes.length, tokens=sizes.train_tokens)
            rows, length = sizes.batch_size, sizes.length
            self._passes = Passes(view, units=units, key=key, rows=rows, length=length, passes=sizes.passes)
            self._check_steps(self._passes)
            # All tasks of a stream need a fingerprint before the first one is learned: too early
            # to fill the memory with whole passes.
            batch = self._passes.read
        self.fingerprint = fingerprint(batch, self.evaluation)

    @property
    def entropy(self) -> float:
        return float(np.mean([view.source.entropy(view.classes) for view in self._views]))

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of the classes that the task is cut from, MIXED where these differ."""
        sources = [(view.source, view.classes.tolist()) for view in self._views]
        each = [source.tags(c) for source, classes in sources if isinstance(source, Tagged) for c in classes]
        values = {name: {tags.get(name, MIXED) for tags in each} for name in dict.fromkeys(n for t in each for n in t)}
        return {name: words.pop() if len(words) == 1 else MIXED for name, words in values.items()}

    @property
    def visit_steps(self) -> int | None:
        """Batches in the passes of a visit; None where rows are drawn at random."""
        return None if self._passes is None else self._passes.visit_steps

    def batch(self, step: int) -> Batch:
        """Return the batch at `step`."""
        return self._draw(step) if self._passes is None else self._passes.batch(step)

    def evaluation(self) -> Batch:
        """Return the eval part: all of it, or as many rows of each view."""
        rows, length = self._sizes.eval_sequences, self._sizes.length
        if rows is None:
            return Batch.stack([view.whole_evaluation(length=length) for view in self._views])
        # Rows are spread without chance: the eval part is the same whenever it is read.
        view_B = spread(rows, over=len(self._views))
        return mix_rows(view_B, lambda v, count: self._views[v].evaluation(rows=count, length=length))

    def _draw(self, step: int) -> Batch:
        # A generator for each step: a batch does not depend on which ones were drawn before.
        rng = np.random.default_rng([*self._key, step])
        rows, length = self._sizes.batch_size, self._sizes.length
        if len(self._views) == 1:
            return self._views[0].draw(rows=rows, length=length, rng=rng)
        view_B = rng.choice(len(self._views), size=rows)
        return mix_rows(view_B, lambda v, count: self._views[v].draw(rows=count, length=length, rng=rng))

    def _check_steps(self, passes: Passes) -> None:
        if passes.visit_steps < 1:
            raise ValueError(
                f"task.batch_size={self._sizes.batch_size}: {self.name!r} has only {passes.visit_rows} "
                "rows to read, less than one batch"
            )


def fingerprint(batch: Callable[[int], Batch], evaluation: Callable[[], Batch]) -> str:
    """Return the SHA-256 of a task's first batches and eval part; equal tasks have equal ones."""
    digest = hashlib.sha256()
    for part in (*map(batch, range(FINGERPRINT_STEPS)), evaluation()):
        digest.update(part.tokens_BT.numpy().tobytes())
        digest.update(part.targets_BT.numpy().tobytes())
        if part.outputs_BV is not None:
            digest.update(part.outputs_BV.numpy().tobytes())
    return digest.hexdigest()
