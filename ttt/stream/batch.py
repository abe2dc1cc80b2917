"""A batch of token sequences: what every model reads and every source and task returns.

Shapes: B batch (lanes), T time, V vocabulary, X numbers in a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The target of a position that is not scored; torch's cross-entropy ignores this number by default.
IGNORE = -100
Ints = NDArray[np.int64]


class Batch(NamedTuple):
    """Rows of tokens with their targets.

    `tokens_BT`   int64; or [B, T, X] float32 where a source holds vectors in place of tokens
    `targets_BT`  int64; IGNORE where a position is not scored
    `segment_BT`  index of the document at each position; negative for padding between documents
    `outputs_BV`  which outputs compete for the scored tokens of a row; None where all do
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    segment_BT: Tensor
    outputs_BV: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        if self.tokens_BT.device == device:
            return self
        return self._each(lambda x: x.to(device, non_blocking=True))

    def rows(self, start: int, stop: int) -> Batch:
        """Return the rows from `start` up to `stop`, without a copy."""
        return self._each(lambda x: x[start:stop])

    def cut(self, rows: int) -> list[Batch]:
        """Cut the batch into batches of `rows` rows each, which share its memory."""
        columns = [x.split(rows) for x in self if x is not None]
        return [Batch(*tensors) for tensors in zip(*columns, strict=True)]

    def pick(self, index: Ints) -> Batch:
        """Return copies of the rows at `index`, in that order."""
        chosen = torch.from_numpy(index)
        return self._each(lambda x: x[chosen])

    def share(self, rank: int, *, of: int) -> Batch:
        """Return the rows for device `rank` of `of` devices; all shares together are the batch."""
        # Every of-th row, not a block: origins often lie in blocks, and each device should see all.
        return self._each(lambda x: x[rank::of])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        outputs_BV = None if self.outputs_BV is None else change(self.outputs_BV)
        return Batch(change(self.tokens_BT), change(self.targets_BT), change(self.segment_BT), outputs_BV)

    @staticmethod
    def stack(parts: Sequence[Batch]) -> Batch:
        """Join the rows of several batches into one batch, in order."""
        if len(parts) == 1:
            return parts[0]
        outputs = [part.outputs_BV for part in parts if part.outputs_BV is not None]
        assert len(outputs) in (0, len(parts)), "rows with and without limited outputs do not stack"
        tokens_BT = torch.cat([part.tokens_BT for part in parts])
        targets_BT = torch.cat([part.targets_BT for part in parts])
        segment_BT = torch.cat([part.segment_BT for part in parts])
        return Batch(tokens_BT, targets_BT, segment_BT, torch.cat(outputs) if outputs else None)

    @property
    def num_tokens(self) -> int:
        # Not counted on tokens_BT, which holds X numbers a position where positions are vectors.
        return self.segment_BT.numel()


def whole_rows(tokens: np.ndarray, targets: np.ndarray) -> Batch:
    """Return a batch whose rows hold one document each, from arrays [B, T]."""
    tokens_BT = torch.from_numpy(tokens if tokens.dtype == np.float32 else tokens.astype(np.int64))
    targets_BT = torch.from_numpy(targets.astype(np.int64))
    return Batch(tokens_BT, targets_BT, torch.zeros_like(targets_BT))


def spread(count: int, *, over: int) -> Ints:
    """Return `count` indices below `over`, spread evenly and in order.

    With more indices than `over`, each index repeats equally often, but for one more or less.
    """
    # linspace reaches both ends, so the first and the last index are always among few.
    if count <= over:
        return np.linspace(0, over - 1, count).astype(np.int64)
    return np.repeat(np.arange(over), [len(part) for part in np.array_split(np.arange(count), over)])
