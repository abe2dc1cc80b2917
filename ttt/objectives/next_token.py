"""`next_token`: the likelihood of what comes next, as everywhere.

loss = - mean over scored tokens of log p(token | what was read before)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ttt.objectives.base import Objective
from ttt.stream import Batch

if TYPE_CHECKING:
    from ttt.learner import Learner


class NextToken(Objective):
    def loss(self, learner: Learner, batch: Batch, step: int) -> Tensor:
        return learner.likelihood(batch, step)
