"""What promises of tasks and of sources look at: the shapes and numbers of batches, and their rows.

Shapes: B batch (lanes), T time, N scored positions.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ttt.stream import IGNORE, Batch


def misshapen(batch: Batch, *, vocab: int, length: int) -> str:
    """What is wrong with the shapes and numbers of a batch; empty where nothing is."""
    tokens, targets_BT, segment_BT, _ = batch
    if tokens.shape[:2] != targets_BT.shape or segment_BT.shape != targets_BT.shape:
        return f"tokens {list(tokens.shape)}, targets {list(targets_BT.shape)}, segments {list(segment_BT.shape)}"
    if tokens.shape[1] > length:
        return f"rows of {tokens.shape[1]} tokens, longer than {length}"
    # Vectors in place of tokens are no integers.
    kinds = {targets_BT.dtype, segment_BT.dtype} | (set() if tokens.is_floating_point() else {tokens.dtype})
    if kinds != {torch.int64}:
        return f"numbers of {', '.join(sorted(map(str, kinds)))}, not of torch.int64"
    scored_N = targets_BT[targets_BT != IGNORE]
    if not len(scored_N):
        return "no position is scored"
    for what, numbers in (("token", tokens), ("target", scored_N)):
        wrong = [] if numbers.is_floating_point() else numbers[(numbers < 0) | (numbers >= vocab)].tolist()
        if wrong:
            return f"{what} {wrong[0]} is not in the vocabulary, 0 to {vocab - 1}"
    return ""


def equal(batch: Batch, other: Batch) -> bool:
    return all(
        (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))
        for a, b in zip(batch, other, strict=True)
    )


def rows_of(batch: Batch) -> Iterator[bytes]:
    """Each row with its targets."""
    for tokens, targets_T in zip(batch.tokens_BT, batch.targets_BT, strict=True):
        yield tokens.numpy().tobytes() + targets_T.numpy().tobytes()
