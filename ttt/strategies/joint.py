"""`joint`: all tasks at once, the reference without any order.

    every batch: equal shares of all phases       row r of phase p comes at about step r * P / rows

Each row that `naive` reads in the stream is read here too, and as often (phases of one length): the same data and
budget in another order, so what a strategy loses against it is the price of the order. Phases keep names and steps, so
that R has the same rows; no task is announced. Memory: all data. Cost of a step: as naive, and the dealing of rows;
with more tasks more, smaller pieces are put together (no more passes of the model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from ttt.strategies.base import Strategy
from ttt.stream import Batch, Dealt, Phase, Stream


class Joint(Strategy):
    runs_on = "any"

    def phases(self, stream: Stream) -> Sequence[Phase]:
        dealt = Dealt(stream.phases, taken=[0] * len(stream.phases), key=0)
        before = accumulate((phase.steps for phase in stream.phases), initial=0)
        return [
            replace(phase, batch=Later(dealt, start).batch, announced=False)
            for phase, start in zip(stream.phases, before, strict=False)
        ]


class Later:
    """A dealer's batches from one on."""

    def __init__(self, dealt: Dealt, start: int) -> None:
        self._dealt, self._start = dealt, start

    def batch(self, step: int) -> Batch:
        return self._dealt.batch(self._start + step)
