"""`ewc`: stay near the weights that each task left, where the task's likelihood needs them.

    loss = data + c * sum_t sum_i F_ti (theta_i - theta_ti)^2
    F_t: diagonal of the Fisher information of task t

Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796), with an anchor for each
task. The anchors are summed into one (quadratic.py), so memory is two numbers a weight and cost two
passes over the weights a step, whatever the number of tasks; at the end of a task there is one
backward pass for each of `samples` rows.
"""

from __future__ import annotations

from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.importance import Labels, Per, fisher, importances, sampled_batches
from ttt.strategies.quadratic import Quadratic
from ttt.strategies.shared import AtLeastOne, Coefficient, check_tasks, generator
from ttt.stream import Stream


class Ewc(Quadratic):
    """Arguments are explained in conf/strategy/ewc.yaml."""

    needs_likelihood = True

    def __init__(
        self, *, name: str, coefficient: Coefficient, samples: AtLeastOne, fisher: Per, labels: Labels
    ) -> None:
        super().__init__(name=name, coefficient=coefficient)
        self._samples, self._fisher, self._labels = samples, fisher, labels

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)

    def end_task(self, engine: Engine, index: int) -> None:
        self.pull_too(self.information(engine, index))

    def information(self, engine: Engine, index: int) -> list[Tensor]:
        """Return F of the task just learned, for each trained parameter."""
        # A generator for each row: the draws do not depend on which device reads the row.
        score = fisher(
            per=self._fisher, labels=self._labels, generator=lambda number: generator(self._stream, index, number)
        )
        batches = sampled_batches(self._stream.phases[index], samples=self._samples, per=self._fisher)
        return importances(engine, batches, of=self.trained, score=score, power=2)
