"""What a task is cut from: views of a source, and tasks that draw from them.

A view is some classes of a source, bent: tokens renamed, positions permuted, outputs limited.

Shapes: B batch, T time, V vocabulary, L tokens of an example without its label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ttt.stream import IGNORE, Batch, Ints, Source, Task, gather, spread
from ttt.tasks.machinery.passes import Passes

# Part of every generator's key, so that no two purposes ever share random numbers.
HOLD_OUT, CHOOSE, BASE, LEARN, BEND, MIX, PLANT = range(7)
FINGERPRINT_STEPS = 2
# Numbers in the sequences of one pass up to which it is made whole (40 MB of float32), and in all that are kept.
WHOLE_PASS, MOST = 10_000_000, 64_000_000
KEPT = Passes(most=MOST)


@dataclass(frozen=True, kw_only=True)
class View:
    """`names_V[v]`: what token v is called here. `order_L[l]`: the position that position l is taken from."""

    source: Source
    classes: Ints
    names_V: Ints | None = None
    order_L: Ints | None = None
    outputs_V: NDArray[np.bool_] | None = None

    def draw(self, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        return self.bend(self.source.draw(self.classes, rows=rows, length=length, rng=rng))

    def evaluation(self, *, rows: int, length: int) -> Batch:
        return self.bend(self.source.evaluation(self.classes, rows=rows, length=length))

    def take(self, units: Ints, *, length: int) -> Batch:
        return self.bend(self.source.take(units, length=length))

    def bend(self, batch: Batch) -> Batch:
        tokens_BT, targets_BT, segment_BT, _ = batch
        if self.order_L is not None and tokens_BT.dim() == 3:
            # Vectors: their numbers change places.
            tokens_BT = tokens_BT[..., torch.from_numpy(self.order_L)]
        elif self.order_L is not None:
            tokens_BT = tokens_BT[:, torch.from_numpy(self._order_of_row(tokens_BT.shape[1]))]
        if self.names_V is not None:
            names_V = torch.from_numpy(self.names_V)
            if tokens_BT.dim() == 2:
                tokens_BT = names_V[tokens_BT]
            targets_BT = torch.where(targets_BT == IGNORE, targets_BT, names_V[targets_BT.clamp(min=0)])
        outputs_BV = None
        if self.outputs_V is not None:
            outputs_BV = torch.from_numpy(self.outputs_V).expand(len(tokens_BT), -1)
        return Batch(tokens_BT, targets_BT, segment_BT, outputs_BV)

    def _order_of_row(self, length: int) -> Ints:
        """The same permutation in every example of a sequence; labels stay where they are."""
        assert self.order_L is not None
        period = len(self.order_L) + 1
        order_T = np.arange(length)
        inside = order_T % period < period - 1
        order_T[inside] = order_T[inside] // period * period + self.order_L[order_T[inside] % period]
        return order_T


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of what a task gives: rows of a batch and of the eval part, tokens of a row; one pass or draws at random."""

    batch_size: int
    length: int
    eval_sequences: int
    one_pass: bool = False


class DrawnTask:
    """Sequences of some views, each row of one of them; the batch at `step` depends on (key, step) alone."""

    def __init__(self, views: Sequence[View], *, name: str, key: Sequence[int], sizes: Sizes) -> None:
        self.name = name
        self._views = list(views)
        self._key = list(key)
        self._sizes = sizes
        self._shuffled: tuple[int, Ints] = (-1, np.empty(0, np.int64))
        self._is_used = False
        if sizes.one_pass and self.steps_in_one_pass < 1:
            raise ValueError(
                f"task.steps_per_task=one-pass: {name!r} has too little for one batch of "
                f"task.batch_size={sizes.batch_size} rows"
            )
        self.fingerprint = fingerprint(self)
        self._is_used = True

    @property
    def entropy(self) -> float:
        return float(np.mean([view.source.entropy(view.classes) for view in self._views]))

    def batch(self, step: int) -> Batch:
        if self._sizes.one_pass:
            return self._piece(step)
        rng = np.random.default_rng([*self._key, step])
        rows, length = self._sizes.batch_size, self._sizes.length
        if len(self._views) == 1:
            return self._views[0].draw(rows=rows, length=length, rng=rng)
        which = rng.choice(len(self._views), size=rows)
        return gather(which, lambda v, count: self._views[v].draw(rows=count, length=length, rng=rng))

    def evaluation(self) -> Batch:
        which = spread(self._sizes.eval_sequences, over=len(self._views))
        return gather(which, lambda v, count: self._views[v].evaluation(rows=count, length=self._sizes.length))

    @property
    def steps_in_one_pass(self) -> int:
        return len(self._units) // (self._sizes.batch_size * self._per_row)

    @property
    def _per_row(self) -> int:
        return self._views[0].source.per_row(length=self._sizes.length)

    @cached_property
    def _units(self) -> Ints:
        (view,) = self._views
        units = view.source.units(view.classes, length=self._sizes.length)
        assert units is not None
        return units

    def _piece(self, step: int) -> Batch:
        """Every unit once, in an order that changes with every pass."""
        epoch, place = divmod(step, self.steps_in_one_pass)
        rows = self._sizes.batch_size
        # For a fingerprint, which all tasks of a stream need before the first one is read, a few rows are enough.
        if self._is_used and self._is_small:
            return self._pass(epoch)[place]
        return self._take(self._order(epoch)[place * rows * self._per_row : (place + 1) * rows * self._per_row])

    def _take(self, units: Ints) -> Batch:
        return self._views[0].take(units.reshape(-1, self._per_row), length=self._sizes.length)

    def _pass(self, epoch: int) -> list[Batch]:
        """All batches of a pass, made at once."""
        kept = KEPT.find(self, epoch)
        if kept is not None:
            return kept
        rows = self._sizes.batch_size

        def shuffle(table: Batch) -> list[Batch]:
            return table.pick(self._shuffle(epoch)[: self.steps_in_one_pass * rows]).cut(rows)

        return KEPT.make(self, epoch, make=lambda: self._take(self._units), shuffle=shuffle)

    def _order(self, epoch: int) -> Ints:
        # The last one is kept: to shuffle a large source for every batch would cost more than the batch.
        if self._shuffled[0] != epoch:
            self._shuffled = epoch, self._units[self._shuffle(epoch)]
        return self._shuffled[1]

    def _shuffle(self, epoch: int) -> Ints:
        return np.random.default_rng([*self._key, epoch]).permutation(len(self._units))

    @cached_property
    def _is_small(self) -> bool:
        """A unit a row, and all rows fit into memory."""
        numbers = self._sizes.length * (self._views[0].source.vector_size or 1)
        return self._per_row == 1 and len(self._units) * numbers <= WHOLE_PASS


def fingerprint(task: Task | DrawnTask) -> str:
    """SHA-256 over the first batches and the eval part: equal streams have equal fingerprints."""
    digest = hashlib.sha256()
    for batch in (*map(task.batch, range(FINGERPRINT_STEPS)), task.evaluation()):
        digest.update(batch.tokens_BT.numpy().tobytes())
        digest.update(batch.targets_BT.numpy().tobytes())
        if batch.outputs_BV is not None:
            digest.update(batch.outputs_BV.numpy().tobytes())
    return digest.hexdigest()


def label(source: Source, classes: Sequence[int] | Ints) -> str:
    """The name of a task that is some classes."""
    return " + ".join(source.class_name(int(c)) for c in classes[:3]) + (" ..." if len(classes) > 3 else "")


def shown(source: Source, *, extra: Callable[[int], str]) -> Callable[[Ints], str]:
    """How to show sequences with tokens of the stream's own behind those of the source; these count from 0."""

    def show(tokens: Ints) -> str:
        own = tokens >= source.vocab_size
        pieces = np.split(np.arange(len(tokens)), np.flatnonzero(np.diff(own)) + 1)
        text = ""
        for piece in pieces:
            part = tokens[piece]
            text += "".join(extra(int(t) - source.vocab_size) for t in part) if own[piece[0]] else source.show(part)
        return text

    return show
