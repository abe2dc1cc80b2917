"""`replay`: rows of earlier tasks are read again beside each batch.

    loss = mean over the scored tokens of batch and memory rows together

Experience replay with a small memory (Chaudhry et al. 2019, arXiv 1902.10486). Rows enter the memory from the batches
as they are trained on, those of the present task too, but only rows of earlier tasks are drawn: with replacement,
never any in the first task. Memory: `size` rows. Cost of a step: the model reads `rows` rows more; it does not grow
with the number of tasks.
"""

from __future__ import annotations

from ttt.strategies.rehearsal import Rehearsal
from ttt.stream import Batch


class Replay(Rehearsal):
    """Arguments are explained in conf/strategy/replay.yaml."""

    runs_on = "any"

    def memory(self, batch: Batch, *, step: int) -> Batch | None:
        # Before their places may be taken.
        rows = self.drawn()
        self.keep(batch)
        return rows
