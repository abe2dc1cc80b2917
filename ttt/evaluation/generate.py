"""What a model writes when it goes on from the opening of a task's eval text: the likeliest tokens.

It only reads: slow weights, the carried state and every generator stay as they are.
Shapes: B lanes (one here), T time, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ttt.learner import Engine, Reader
from ttt.stream import Batch, Stream
from ttt.training.recipe import Recipe

# An opening is half of the sequence, and at most so many tokens.
OPENING = 64
# fast: fast weights start afresh and are written while it reads and writes; slow: they stay empty.
MODES = ("slow", "fast")


@dataclass(frozen=True)
class Written:
    """How a model went on from an opening, as text."""

    task: int
    task_name: str
    mode: str
    opening: str
    text: str


@torch.no_grad()
def continuations(engine: Engine, stream: Stream, tasks: list[int], *, recipe: Recipe, tokens: int) -> list[Written]:
    """What the model writes behind the opening of each of `tasks`, in each mode, greedily."""
    learner = engine.learner.eval()
    # Without fast weights both modes are the same.
    modes = MODES if learner.adapter.initial() else MODES[:1]
    written = []
    for task in tasks:
        opening_T = opening(stream.tasks[task].evaluation())
        for mode in modes:
            with engine.fabric.autocast(), recipe.strategy.evaluating(task):
                tokens_T = greedy(engine, opening_T, tokens=tokens, write=mode == "fast")
            shown = (stream.show(x.cpu().numpy()) for x in (opening_T, tokens_T))
            written.append(Written(task, stream.tasks[task].name, mode, *shown))
    learner.train()
    return written


def opening(batch: Batch) -> Tensor:
    """The first half [T] of the first sequence."""
    tokens_T = batch.tokens_BT[0][batch.segment_BT[0] >= 0]
    return tokens_T[: min(max(len(tokens_T) // 2, 1), OPENING)]


def greedy(engine: Engine, opening_T: Tensor, *, tokens: int, write: bool) -> Tensor:
    """The next `tokens` tokens [T], each the likeliest after all before it."""
    reader = Reader(engine.learner, write=write)
    return reader.generate(opening_T[None].to(engine.fabric.device), tokens=tokens)[0]
