"""Eval parts that are read from end to end, in rows side by side.

    a stretch of ten tokens    0 1 2 3 4 5 6 7 8 9
    its rows of four           0 1 2 3 -> 1 2 3 4     4 5 6 7 -> 5 6 7 8     8 . . . -> 9 . . .

So each token but the first of a stretch is scored once. The last row of a stretch is filled up with
padding, which belongs to no document and is not scored.

Shapes: R rows, T time, W tokens of a window (a row and its last target).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from ttt.stream import IGNORE, Batch, Ints


@runtime_checkable
class WholeText(Protocol):
    """A source of running text, whose eval parts have an end."""

    def whole_evaluation(self, classes: Ints, *, length: int) -> Batch:
        """Return the whole eval parts of `classes` in rows of `length` tokens."""
        ...


def rows_side_by_side(tokens: NDArray[Any], starts: Ints, ends: Ints, *, length: int) -> Batch:
    """Return the stretches [start, end) of `tokens` as rows, stretch after stretch."""
    # The first token of a stretch is no target: a stretch of one token has no row.
    counts = -(-(ends - starts - 1).clip(min=0) // length)
    # Rows are numbered within their stretch: 0, 1, 2, and 0 again with the next stretch.
    number_R = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    first_R = np.repeat(starts, counts) + number_R * length
    place_RW = first_R[:, None] + np.arange(length + 1)
    last_R1 = np.repeat(ends, counts)[:, None] - 1
    # Places behind the end read the last token: what they hold is masked below.
    window_RW = tokens[np.minimum(place_RW, last_R1)].astype(np.int64)
    has_target_RT = place_RW[:, 1:] <= last_R1
    tokens_RT = np.where(has_target_RT, window_RW[:, :-1], 0)
    targets_RT = np.where(has_target_RT, window_RW[:, 1:], IGNORE)
    segment_RT = np.where(has_target_RT, 0, -1)
    return Batch(*map(torch.from_numpy, (tokens_RT, targets_RT, segment_RT)))
