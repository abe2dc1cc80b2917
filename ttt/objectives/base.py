"""What an objective is: the loss of a batch, and what it remembers between batches.

Shapes: B rows, T time, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from ttt.learner import Learner
from ttt.stream import Batch


class Loss(NamedTuple):
    """The loss of a batch in nats, with the logits if the likelihood of the batch was computed.

    Strategies add their terms to a loss only if it comes with logits.
    """

    value: Tensor
    logits_BTV: Tensor | None = None


class Objective(ABC):
    """The loss that moves the slow weights. All methods except `loss` do nothing by default."""

    # True if the objective works with every strategy and adapter, on any number of devices.
    is_plain = True

    def __init__(self, *, name: str) -> None:
        self.name = name

    def begin(self, learner: Learner) -> None:  # noqa: B027
        """Prepare for the stream; called once, after the base's weights are loaded."""

    @abstractmethod
    def loss(self, learner: Learner, batch: Batch, *, own: int, learns: bool, whole: bool = True) -> Loss:
        """Return the loss of one batch and carry the learner's fast state forward.

        The first `own` rows are the task's; the other rows come from a memory of earlier tasks.
        `learns` is False if the strategy freezes the slow weights, so that no gradient is needed.
        `whole` is False if the strategy has no use for logits: then they may be left out.
        """

    def terms(self) -> dict[str, float]:
        """Current values to watch, by name. A value that is not finite stops the run."""
        return {}

    def watched(self) -> dict[str, float]:
        """Further values to watch: means over the steps since the last call."""
        return {}

    def learned(self, learner: Learner, task: int) -> None:  # noqa: B027
        """Note the end of a phase that teaches `task`.

        What is stored here is for evaluation only: learning must not know where a task ends.
        """

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold for a resumed run to be bit-equal to an unbroken one."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Load what `state` returned; called after `begin`."""
