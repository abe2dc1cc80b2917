"""`online_ewc`: ewc with one anchor, the latest weights, and one importance that fades.

    loss = data + c * sum_i F*_i (theta_i - theta_(t-1),i)^2
    F* <- gamma F* + F_t at the end of task t

Schwarz et al. 2018 (Progress & Compress, arXiv 1805.06370). Memory: two numbers a weight. Cost: two
passes over the weights a step, and one backward pass for each of `samples` rows at the end of a
task. Neither grows with the number of tasks.
"""

from __future__ import annotations

import torch

from ttt.learner import Engine
from ttt.strategies.ewc import Ewc
from ttt.strategies.importance import Labels, Per
from ttt.strategies.shared import AtLeastOne, Coefficient, Fraction


class OnlineEwc(Ewc):
    """Arguments are explained in conf/strategy/online_ewc.yaml."""

    def __init__(
        self,
        *,
        name: str,
        coefficient: Coefficient,
        gamma: Fraction,
        samples: AtLeastOne,
        fisher: Per,
        labels: Labels,
    ) -> None:
        super().__init__(name=name, coefficient=coefficient, samples=samples, fisher=fisher, labels=labels)
        self._gamma = gamma

    def end_task(self, engine: Engine, index: int) -> None:
        new = self.information(engine, index)
        if self.importance:
            # F* <- F_t + gamma F*, in the new tensors: the old ones are dropped.
            torch._foreach_add_(new, self.importance, alpha=self._gamma)
        self.pull(new)
