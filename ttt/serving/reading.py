"""One round: a block of each of some sessions, scored and read as lanes of one batch.

Shapes: B lanes, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.learner import Learner, Reader, Sampling
from ttt.models.cache import PADDING
from ttt.serving.lanes import Lane, cut, join_lanes
from ttt.serving.session import TextBlock
from ttt.stream import IGNORE


def read_blocks(
    learner: Learner, blocks: Sequence[TextBlock], lanes: Sequence[Lane], *, write: bool
) -> tuple[list[float], list[Lane]]:
    """The nats of each block, predicted by its lane, and the lanes that have read it.

    A token is scored before it is read: the last one of a block is read with the next block.
    """
    length = max(len(block.inputs) for block in blocks)
    # A text of one token has nothing to be predicted from.
    if length == 0:
        return [0.0] * len(blocks), list(lanes)
    reader, device = reader_of(learner, lanes, write=write), next(learner.parameters()).device
    tokens_BT = torch.zeros(len(blocks), length, dtype=torch.long)
    targets_BT, segment_BT = torch.full_like(tokens_BT, IGNORE), torch.full_like(tokens_BT, PADDING)
    for row, block in enumerate(blocks):
        # Shorter blocks are filled up on the right with padding, which is not read.
        width = len(block.inputs)
        tokens_BT[row, :width] = torch.from_numpy(block.inputs)
        targets_BT[row, :width] = torch.from_numpy(block.targets)
        segment_BT[row, :width] = 0
    logits_BTV = reader.read(tokens_BT.to(device), segment_BT=segment_BT.to(device))
    return nats_of(logits_BTV, targets_BT.to(device)), cut(reader.export(), len(blocks))


def nats_of(logits_BTV: Tensor, targets_BT: Tensor) -> list[float]:
    """The loss of each row, summed over its scored tokens."""
    # In half precision a sum over a block would lose its last digits.
    logits_BTV = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
    nats_BT = F.cross_entropy(logits_BTV.mT, targets_BT, ignore_index=IGNORE, reduction="none")
    sums: list[float] = nats_BT.double().sum(1).tolist()
    return sums


def reader_of(learner: Learner, lanes: Sequence[Lane], *, write: bool) -> Reader:
    """A reader that goes on where these lanes stopped."""
    reader = Reader(learner, write=write)
    reader.restore(join_lanes(lanes))
    return reader


def speak(learner: Learner, lane: Lane, *, last: int, tokens: int, sampling: Sampling) -> tuple[list[int], Lane]:
    """Tokens written behind `last`, and the lane that has read all but the newest of them."""
    reader = reader_of(learner, [lane], write=True)
    token_11 = torch.tensor([[last]], device=next(learner.parameters()).device)
    written_1T = reader.generate(token_11, tokens=tokens, sampling=sampling)
    return written_1T[written_1T != PADDING].tolist(), cut(reader.export(), 1)[0]


def listen(learner: Learner, lane: Lane, *, tokens: Sequence[int]) -> Lane:
    """The lane after it has read `tokens` without writing."""
    reader = reader_of(learner, [lane], write=False)
    reader.read(torch.tensor([tokens], device=next(learner.parameters()).device), last=True)
    return cut(reader.export(), 1)[0]
