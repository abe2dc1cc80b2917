"""What an objective is: the loss of a batch, and what it remembers between batches."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ttt.learner import Learner
from ttt.stream import Batch


class Loss(NamedTuple):
    """`value` in nats; `logits_BTV` where the likelihood of the batch was read, for what a strategy adds."""

    value: Tensor
    logits_BTV: Tensor | None = None


class Objective:
    """Every point but `loss` does nothing unless overridden."""

    # Does every strategy, device and adapter go with it?
    is_plain = True

    def __init__(self, *, name: str) -> None:
        self.name = name

    def begin(self, learner: Learner) -> None:
        """Called once, when the base's weights are in."""

    def loss(self, learner: Learner, batch: Batch, *, own: int, learns: bool) -> Loss:
        """The loss of one batch, of which the first `own` rows are the task's; the rest is memory.

        Carry the fast state of the learner on. `learns`: will the loss move any slow weight?
        """
        raise NotImplementedError

    def terms(self) -> dict[str, float]:
        """Values to watch, by name, as they stand now. A value that is not finite stops the run."""
        return {}

    def watched(self) -> dict[str, float]:
        """More values to watch: means over the steps since the last call."""
        return {}

    def learned(self, learner: Learner, task: int) -> None:
        """Called when a phase that teaches `task` ends.

        For what evaluation wants to know later; learning must not read it.
        """

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold for training to go on as if it had never stopped."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`, called after `begin`."""
