"""What a strategy is: a few named points where the learner and the loop call it, in plain sight."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from ttt.stream import Batch, Task


class Strategy(Protocol):
    """Protects slow weights across tasks, or keeps them plastic."""

    name: str

    def mix(self, batch: Batch, *, step: int) -> Batch:
        """The batch to train on: for example with rows from a memory of old tasks."""
        ...

    def penalize(self, loss: Tensor, model: nn.Module) -> Tensor:
        """The loss to minimise: for example with a pull towards old weights."""
        ...

    def end_task(self, task: Task, model: nn.Module) -> None:
        """After the last step of a task, before its evaluation."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What must be in a checkpoint for training to go on as if never stopped."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None: ...
