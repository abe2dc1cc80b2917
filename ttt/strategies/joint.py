"""`joint`: all tasks at once, the reference without any order.

    every batch: equal shares of all phases       row r of phase p comes at about step r * P / rows

Each row that `naive` reads in the stream is read here too, and as often (phases of one length): the
data and the budget are the same and only the order differs, so what a strategy loses against this
reference is the price of the order. Phases keep names and steps, so that R has the same rows; no
task is announced. Memory: all data. Cost of a step: as naive, and the dealing of rows, which come
in more and smaller pieces the more tasks there are (no more passes of the model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from ttt.strategies.base import Strategy
from ttt.stream import Batch, Dealt, Phase, Stream


class Joint(Strategy):
    """Trains on equal shares of all phases of the stream."""

    runs_on = "any"

    def phases(self, stream: Stream) -> Sequence[Phase]:
        # One dealer serves the whole stream, so that each phase goes on where the last one stopped.
        dealt = Dealt(stream.phases, taken=[0] * len(stream.phases), key=0)
        before = accumulate((phase.steps for phase in stream.phases), initial=0)
        return [
            replace(phase, batch=Shifted(dealt, start).batch, announced=False)
            # Not strict: the last number in `before` is the end of the stream.
            for phase, start in zip(stream.phases, before, strict=False)
        ]


class Shifted:
    """The batches of a dealer from step `start` on."""

    def __init__(self, dealt: Dealt, start: int) -> None:
        self._dealt, self._start = dealt, start

    def batch(self, step: int) -> Batch:
        """Return the batch at `step`, counted from `start`."""
        return self._dealt.batch(self._start + step)
