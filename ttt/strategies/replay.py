"""`replay`: rows of earlier tasks are read again beside each batch.

    loss = mean over the scored tokens of batch and memory rows together

Experience replay with a small memory (Chaudhry et al. 2019, arXiv 1902.10486). Rows are chosen from
the batches as they are trained on and may be drawn once their task has ended, with replacement; in
the first task none are drawn. Memory: `size` rows, and at most as many again that wait for the end
of the present task. Cost of a step: the model reads `rows` more rows; it does not grow with the
number of tasks.
"""

from __future__ import annotations

from ttt.strategies.rehearsal import Rehearsal
from ttt.stream import Batch


class Replay(Rehearsal):
    """Arguments are explained in conf/strategy/replay.yaml."""

    runs_on = "any"

    def memory(self, batch: Batch, *, step: int) -> Batch | None:
        # Draw first: where no task is announced, rows of this batch may replace older ones at once.
        rows = self.draw()
        self.see(batch)
        return rows
