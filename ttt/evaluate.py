"""Evaluation: what a learner scores on each task, in each mode. It only reads.

Shapes: B sequences, T time, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import FastState, Mode, shared
from ttt.learner import competing
from ttt.stream import IGNORE, Batch, Stream
from ttt.train import Engine

QUANTITIES = ("loss", "accuracy", "loss_early", "loss_late", "accuracy_early", "accuracy_late")
# Rows that are read at once: a bound on memory, without effect on the scores.
ROWS = 32

# Up to this many tasks all are measured after each; with more, that many rows of R are full.
MANY, FULL_ROWS = 30, 10

# mode -> quantity -> one value a measured task
Scores = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Plan:
    """Which tasks are measured in which row of R: all J of them after each of P phases costs P x J evaluations.

    Every `every`-th row is full, and so are the first and the last. The rows between hold the task just learned
    and the one that comes next: learning, forgetting since learning and forward transfer stay defined.
    """

    every: int

    @classmethod
    def of(cls, every: int | str, *, stream: Stream) -> Plan:
        """`auto` is every row up to MANY tasks, else FULL_ROWS of them. Raises ValueError in the user's words."""
        if every == "auto":
            rows = len(stream.phases)
            return cls(1 if len(stream.tasks) <= MANY else -(-rows // FULL_ROWS))
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"eval.every={every}: must be auto or a number of at least 1")
        return cls(every)

    def is_full(self, row: int, *, stream: Stream) -> bool:
        return row % self.every == 0 or row == len(stream.phases)

    def columns(self, row: int, *, stream: Stream) -> list[int]:
        if self.is_full(row, stream=stream):
            return list(range(len(stream.tasks)))
        return sorted({phase.task for phase in stream.phases[row - 1 : row + 1]})


def modes(engine: Engine) -> tuple[Mode, ...]:
    """`carried` is only measured where the stream carries a state from batch to batch."""
    return ("slow", "fast") if engine.learner.adapter.reset == "sequence" else ("slow", "fast", "carried")


@torch.no_grad()
def evaluate(engine: Engine, evaluations: Sequence[Batch]) -> Scores:
    """Score every batch (the eval part of one task each) in every mode.

    slow: state initial, writes off. fast: state initial, written while reading each sequence.
    carried: the same from the state that the stream left. Every sequence has its own copy of the state.
    """
    learner = engine.learner
    learner.eval()
    initial = learner.adapter.initial()
    scores: Scores = {}
    for mode in modes(engine):
        if mode == "fast" and not initial:
            # Without fast weights there is nothing to write: the same evaluation, done once.
            scores["fast"] = scores["slow"]
            continue
        state = shared(learner.fast) if mode == "carried" else initial
        rows = [_score(engine, batch, state, write=mode != "slow") for batch in evaluations]
        scores[mode] = {quantity: [row[quantity] for row in rows] for quantity in QUANTITIES}
    learner.train()
    return scores


def _score(engine: Engine, batch: Batch, state: FastState, *, write: bool) -> dict[str, float]:
    nats, hits = [], []
    for start in range(0, len(batch.tokens_BT), ROWS):
        part = batch.rows(start, start + ROWS).to(engine.fabric.device)
        logits_BTV, _ = engine.wrapped(part, state, write=write)
        logits_BTV = competing(logits_BTV.float(), part)
        flat = (logits_BTV.flatten(0, 1), part.targets_BT.flatten())
        nats.append(F.cross_entropy(*flat, ignore_index=IGNORE, reduction="none").view_as(part.targets_BT))
        hits.append(logits_BTV.argmax(-1) == part.targets_BT)
    scored_BT = batch.targets_BT != IGNORE
    return summarize(torch.cat(nats).cpu(), torch.cat(hits).cpu(), scored_BT)


def summarize(nats_BT: Tensor, hits_BT: Tensor, scored_BT: Tensor) -> dict[str, float]:
    """Bits per scored token and share of hits: over the sequence, its first half and its second half."""
    half = nats_BT.shape[1] // 2
    numbers = {}
    for suffix, part in (("", slice(None)), ("_early", slice(0, half)), ("_late", slice(half, None))):
        scored = scored_BT[:, part]
        numbers[f"loss{suffix}"] = float(nats_BT[:, part][scored].double().mean()) / math.log(2)
        numbers[f"accuracy{suffix}"] = float(hits_BT[:, part][scored].double().mean())
    return numbers
