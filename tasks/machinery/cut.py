"""What a task is cut from: some classes of a source, altered.

Tokens may be renamed, positions permuted, outputs limited.

Shapes: B batch, T time, V vocabulary, L tokens of an example without its label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ttt.stream import IGNORE, Batch, Ints, Source
from ttt.tasks.machinery.whole import WholeText

# Part of every generator's key, so that no two purposes ever share random numbers. The numbers
# decide what is drawn: append to the list, never reorder it.
HOLD_OUT, CHOOSE, BASE, LEARN, ALTER, MIX, PLANT = range(7)


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """Some classes of a source, seen in one way.

    `names_V[v]`    the token that token v is renamed to
    `order_L[l]`    the position whose content moves to position l; of a vector, the number
    `outputs_V[v]`  whether token v competes as an output
    `names_scored`  rename scored tokens alone: a label may be a word, which a text may hold too
    """

    source: Source
    classes: Ints
    names_V: Ints | None = None
    order_L: Ints | None = None
    outputs_V: NDArray[np.bool_] | None = None
    names_scored: bool = False

    def draw(self, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        """Draw `rows` altered training sequences."""
        return self._alter(self.source.draw(self.classes, rows=rows, length=length, rng=rng))

    def evaluation(self, *, rows: int, length: int) -> Batch:
        """Return `rows` altered sequences of the eval part."""
        return self._alter(self.source.evaluation(self.classes, rows=rows, length=length))

    def whole_evaluation(self, *, length: int) -> Batch:
        """Return the altered eval part from end to end, of a source that is running text."""
        assert isinstance(self.source, WholeText)
        return self._alter(self.source.whole_evaluation(self.classes, length=length))

    def take(self, units: Ints, *, length: int) -> Batch:
        """Return the altered sequences of `units`."""
        return self._alter(self.source.take(units, length=length))

    def _alter(self, batch: Batch) -> Batch:
        tokens_BT, targets_BT = self._renamed(self._permuted(batch.tokens_BT), batch.targets_BT)
        outputs_BV = None
        if self.outputs_V is not None:
            # Expanded, not repeated: all rows share the memory of one.
            outputs_BV = torch.from_numpy(self.outputs_V).expand(len(tokens_BT), -1)
        return Batch(tokens_BT, targets_BT, batch.segment_BT, outputs_BV)

    def _permuted(self, tokens_BT: Tensor) -> Tensor:
        if self.order_L is None:
            return tokens_BT
        if tokens_BT.dim() == 3:
            # An example is one position here: its numbers change places, not the positions.
            return tokens_BT[..., torch.from_numpy(self.order_L)]
        return tokens_BT[:, torch.from_numpy(_row_order(self.order_L, tokens_BT.shape[1]))]

    def _renamed(self, tokens_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
        if self.names_V is None:
            return tokens_BT, targets_BT
        names_V = torch.from_numpy(self.names_V)
        targets_BT = torch.where(targets_BT == IGNORE, targets_BT, names_V[targets_BT.clamp(min=0)])
        # Vectors have no names; their labels, which are targets only, do.
        if tokens_BT.dim() != 2:
            return tokens_BT, targets_BT
        renamed_BT = names_V[tokens_BT]
        if self.names_scored:
            # A token is scored as the target of the position before it.
            renamed_BT[:, 1:] = torch.where(targets_BT[:, :-1] == IGNORE, tokens_BT[:, 1:], renamed_BT[:, 1:])
            renamed_BT[:, 0] = tokens_BT[:, 0]
        return renamed_BT, targets_BT


def task_name(source: Source, classes: Sequence[int] | Ints) -> str:
    """Return the name of a task that consists of some classes."""
    return " + ".join(source.class_name(int(c)) for c in classes[:3]) + (" ..." if len(classes) > 3 else "")


def extended_show(source: Source, *, extra: Callable[[int], str]) -> Callable[[Ints], str]:
    """Return a `show` for sequences with tokens of the stream's own behind those of the source.

    `extra(k)` returns the k-th of the stream's own tokens as text.
    """

    def show(tokens: Ints) -> str:
        is_extra = tokens >= source.vocab_size
        # Whole stretches at once, since several tokens of the source may form one character.
        pieces = np.split(np.arange(len(tokens)), np.flatnonzero(np.diff(is_extra)) + 1)
        text = ""
        for piece in pieces:
            part = tokens[piece]
            if is_extra[piece[0]]:
                text += "".join(extra(int(token) - source.vocab_size) for token in part)
            else:
                text += source.show(part)
        return text

    return show


def _row_order(order_L: Ints, length: int) -> Ints:
    """Return the permutation of a row [T]: that of an example in each example, labels in place."""
    # Each example is followed by its label.
    period = len(order_L) + 1
    order_T = np.arange(length)
    is_content = order_T % period < period - 1
    # Each position gets the start of its example plus the permuted place within it.
    order_T[is_content] = order_T[is_content] // period * period + order_L[order_T[is_content] % period]
    return order_T
