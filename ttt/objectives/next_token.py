"""`next_token`: the likelihood of the next token, as in every language model.

loss = - mean over scored tokens of log p(token | the tokens before it)
"""

from __future__ import annotations

from ttt.learner import Learner, cross_entropy
from ttt.learner.learner import first_lanes
from ttt.objectives.base import Loss, Objective
from ttt.stream import Batch


class NextToken(Objective):
    """Maximum likelihood, with rows of a memory read from a blank fast state."""

    def loss(self, learner: Learner, batch: Batch, *, own: int, learns: bool, whole: bool = True) -> Loss:
        state = learner.lanes(learner.fast, own, of=len(batch.tokens_BT))
        # Call `forward` directly and assign `fast` only when it changes: nn.Module's `__call__` and
        # `__setattr__` are slow in this inner loop.
        logits, after = learner.forward(batch, state, scored=not whole)
        if learner.adapter.reset != "sequence":
            # Rows of a memory belong to no lane of the stream, so their state is dropped.
            learner.fast = learner.adapter.carry(first_lanes(after, own))
        return Loss(cross_entropy(logits, batch, reduction="mean"), logits if whole else None)
