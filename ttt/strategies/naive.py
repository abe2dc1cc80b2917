"""`naive`: train on each task as it comes and protect nothing. The baseline of every comparison."""

from __future__ import annotations

from torch import Tensor, nn

from ttt.stream import Batch, Task


class Naive:
    def __init__(self, *, name: str) -> None:
        self.name = name

    def mix(self, batch: Batch, *, step: int) -> Batch:
        return batch

    def penalize(self, loss: Tensor, model: nn.Module) -> Tensor:
        return loss

    def end_task(self, task: Task, model: nn.Module) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        pass
