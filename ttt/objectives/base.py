"""What an objective is: the loss that a batch gives, and what it remembers between batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ttt.stream import Batch

if TYPE_CHECKING:
    from ttt.learner import Learner


class Objective:
    """Every point but `loss` does nothing unless overridden."""

    # Does every strategy, device and adapter go with it?
    is_plain = True

    def __init__(self, *, name: str) -> None:
        self.name = name

    def begin(self, learner: Learner) -> None:
        """Once; the base's weights are in."""

    def loss(self, learner: Learner, batch: Batch, step: int) -> Tensor:
        """Of one batch, in nats. Carries the fast state of the learner on."""
        raise NotImplementedError

    def terms(self) -> dict[str, float]:
        """Values to watch, by name, as they stand now. One that is not finite stops the run."""
        return {}

    def watched(self) -> dict[str, float]:
        """More of them: means over the steps since they were last asked for."""
        return {}

    def learned(self, learner: Learner, task: int) -> None:
        """A phase that teaches `task` is over. For what evaluation wants to know later; learning must not read it."""

    def state(self) -> dict[str, Tensor]:
        """What must be in a checkpoint for training to go on as if never stopped."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`, after `begin`."""
