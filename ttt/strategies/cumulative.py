"""`cumulative`: all tasks so far, the reference that may keep everything it has read.

    phase i: every batch holds equal shares of phases 1 .. i

Steps are those of the stream, so the later a task comes, the fewer of its own rows are read. Rows
of an earlier phase go on where the phase before left off, and begin again at their end. Memory: all
data so far. Cost of a step: as naive, and the dealing of rows, which come in more and smaller
pieces the more tasks there are (no more passes of the model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ttt.strategies.base import Strategy
from ttt.stream import Dealt, Phase, Stream, batch_rows, share


class Cumulative(Strategy):
    """Trains on equal shares of all phases so far."""

    runs_on = "any"

    def phases(self, stream: Stream) -> Sequence[Phase]:
        rows = batch_rows(stream.phases)
        taken = [0] * len(stream.phases)
        changed = []
        for i, phase in enumerate(stream.phases):
            # A copy: the dealer keeps the counts as they are now.
            dealt = Dealt(stream.phases[: i + 1], taken=list(taken), key=i)
            changed.append(replace(phase, batch=dealt.batch))
            for p in range(i + 1):
                # Count the rows of phase p that this phase
                # deals: the next phase goes on behind them.
                taken[p] += share(phase.steps * rows, p, of=i + 1)
        return changed
