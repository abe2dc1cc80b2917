"""`l2`: stay near the weights that the last task left, all weights alike.

    loss = data + c * |theta - theta_(t-1)|^2

The baseline of Kirkpatrick et al. 2017 (arXiv 1612.00796) and Hsu et al. 2018 (arXiv 1810.12488).
Memory: one number a weight. Cost: one pass over the weights a step. Neither grows with the number
of tasks.
"""

from __future__ import annotations

from ttt.learner import Engine, Learner
from ttt.strategies.quadratic import Quadratic
from ttt.strategies.shared import check_tasks
from ttt.stream import Stream


class L2(Quadratic):
    """Arguments are explained in conf/strategy/l2.yaml."""

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)

    def end_task(self, engine: Engine, index: int) -> None:
        self.pull()
