"""`eval.exact`: the share of rows whose answers a learner writes by itself, without a miss.

It only reads. Shapes: P parts of a sequence, S sums; 2: rows without a miss, rows with an answer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.adapters.evolving import Evolving
from ttt.config.messages import show
from ttt.learner import Engine, Learner, Reader
from ttt.learner.answers import exact_rows
from ttt.stream import IGNORE, Batch, Stream

# Tokens of a batch that are read side by side: a bound on memory.
TOKENS = 8192


def check_exact(exact: Any, *, stream: Stream, learner: Learner, is_cut: bool) -> None:
    """Raise ValueError where no answers can be written."""
    if not isinstance(exact, bool):
        raise ValueError(f"eval.exact={show(exact)}: must be true or false")
    if not exact:
        return
    if stream.vector_size is not None:
        raise ValueError("eval.exact=true: the stream is of vectors, and a model of these writes none")
    if is_cut:
        raise ValueError("eval.exact=true: not with trainer.strategy=fsdp, whose parameters are cut")
    if isinstance(learner.adapter, Evolving):
        raise ValueError(f"eval.exact=true: adapter={learner.adapter.name} has rewards, which are that already")
    if not has_questions(stream.tasks[0].evaluation()):
        raise ValueError(
            "eval.exact=true: every token of the stream is scored, so that nothing asks for an answer; "
            "use a source of questions, such as needle or mqar"
        )


def has_questions(batch: Batch) -> bool:
    """Is anything read that is not scored?"""
    # Padding is not scored either, and asks nothing.
    return bool(((batch.targets_BT == IGNORE) & (batch.segment_BT >= 0)).any())


@torch.no_grad()
def tally_exact(engine: Engine, batch: Batch, state: FastState, *, write: bool) -> Tensor:
    """The two sums over a device's rows; zeros for a text, in which every token is scored."""
    sums_2 = torch.zeros(2, dtype=torch.float64)
    if not has_questions(batch):
        return sums_2
    rows = max(TOKENS // batch.targets_BT.shape[1], 1)
    for start in range(0, len(batch.tokens_BT), rows):
        part = batch.rows(start, start + rows).to(engine.fabric.device)
        # The learner itself: devices read different numbers of tokens, and must not wait here.
        reader = Reader(engine.learner, state=state, write=write)
        with engine.fabric.autocast():
            right_B = exact_rows(reader, part)
        asks_B = (part.targets_BT != IGNORE).any(1)
        sums_2 += torch.stack([(right_B & asks_B).sum(), asks_B.sum()]).double().cpu()
    return sums_2


def with_exact(sums_PS: Tensor, exact_2: Tensor) -> Tensor:
    """Sums over the parts of a sequence, with those of whole rows behind them in the first."""
    columns_P2 = sums_PS.new_zeros(len(sums_PS), 2)
    columns_P2[0] = exact_2
    return torch.cat([sums_PS, columns_P2], 1)
