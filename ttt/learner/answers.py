"""Answers as a learner writes them by itself: the likeliest tokens, one after another.

What it reads behind the first token of an answer is what it wrote, not the right answer: a model
that looks at the text ahead of it, or that one wrong token leads astray, is right nowhere else.
Shapes: B rows, T time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.learner.losses import competing
from ttt.learner.reader import Reader
from ttt.stream import IGNORE, Batch

# Tokens that are read at once: a bound on memory, without effect on the answers.
PIECE = 256


def first_scored(batch: Batch) -> int:
    """The first position that is scored in any row; the length where none is."""
    scored_T = (batch.targets_BT != IGNORE).any(0)
    return int(scored_T.nonzero()[0]) if bool(scored_T.any()) else len(scored_T)


def read_columns(reader: Reader, batch: Batch, start: int, stop: int) -> None:
    """Read the tokens from `start` up to `stop`, of which no logits are wanted."""
    for first in range(start, stop, PIECE):
        part = slice(first, min(first + PIECE, stop))
        reader.read(batch.tokens_BT[:, part], segment_BT=batch.segment_BT[:, part], last=True)


@torch.no_grad()
def exact_rows(reader: Reader, batch: Batch, *, start: int = 0) -> Tensor:
    """In which rows is every scored token the one that the learner writes [B]?

    `reader` has read the tokens before `start`, where nothing is scored. Of rows in which nothing
    is scored all is right.
    """
    scored_BT, tokens_BT = batch.targets_BT != IGNORE, batch.tokens_BT.clone()
    batch = batch._replace(tokens_BT=tokens_BT)
    right_B = torch.ones(len(tokens_BT), dtype=torch.bool, device=tokens_BT.device)
    for t in scored_BT.any(0).nonzero()[:, 0].tolist():
        read_columns(reader, batch, start, t)
        start = t + 1
        logits_B1V = reader.read(tokens_BT[:, t:start], segment_BT=batch.segment_BT[:, t:start], last=True)
        written_B, target_B = competing(logits_B1V, batch)[:, 0].argmax(-1), batch.targets_BT[:, t]
        right_B &= (written_B == target_B) | ~scored_BT[:, t]
        # A row that is wrong stays wrong: without a right one, what follows does not matter.
        if not bool(right_B.any()) or start == tokens_BT.shape[1]:
            break
        # A row whose text goes on with something else than the answer keeps its own next token.
        goes_on_B = tokens_BT[:, start] == target_B
        tokens_BT[:, start] = torch.where(goes_on_B, written_B, tokens_BT[:, start])
    return right_B
