"""`mas`: weights are as important as the outputs are sensitive to them; no labels are needed.

    O_i <- O_i + mean over rows of |d |output|^2 / d theta_i|                at the end of each task
    loss = data + c * sum_i O_i (theta_i - theta_(t-1),i)^2

Memory aware synapses (Aljundi et al. 2018, arXiv 1711.09601). |output|^2 sums over a row's scored
positions and the outputs that compete there. Memory: two numbers a weight. Cost: two passes over
the weights a step, and one backward pass for each of `samples` rows at the end of a task. Neither
grows with the number of tasks.
"""

from __future__ import annotations

import torch

from ttt.learner import Engine, Learner
from ttt.strategies.importance import Per, importances, sampled_batches, squared_norm
from ttt.strategies.quadratic import Quadratic
from ttt.strategies.shared import AtLeastOne, Coefficient, check_tasks
from ttt.stream import Stream


class Mas(Quadratic):
    """Arguments are explained in conf/strategy/mas.yaml."""

    needs_likelihood = True

    def __init__(self, *, name: str, coefficient: Coefficient, samples: AtLeastOne, per: Per) -> None:
        super().__init__(name=name, coefficient=coefficient)
        self._samples, self._per = samples, per

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)

    def end_task(self, engine: Engine, index: int) -> None:
        batches = sampled_batches(self._stream.phases[index], samples=self._samples, per=self._per)
        new = importances(engine, batches, of=self.trained, score=squared_norm, power=1)
        if self.importance:
            # O <- O + new, in the new tensors: the old ones are dropped.
            torch._foreach_add_(new, self.importance)
        self.pull(new)
