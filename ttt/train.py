"""Optimizer steps: the one inner loop that the base and every task share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lightning.fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from ttt.learner import Learner
from ttt.stream import Batch


class Batches(Protocol):
    """What one learns from: a task or a phase. A batch is a pure function of its step."""

    @property
    def name(self) -> str: ...

    def batch(self, step: int) -> Batch: ...


class NonFiniteError(RuntimeError):
    """The loss left the numbers; training on would only spoil the weights."""


@dataclass(frozen=True)
class Progress:
    """Steps done in this task, scored so far; `loss` is the mean in nats since the last report."""

    step: int
    loss: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Engine:
    """A learner set up on its device: `wrapped` is what Fabric made of it (precision, DDP)."""

    fabric: Fabric
    learner: Learner
    wrapped: Learner
    optimizer: Optimizer

    @classmethod
    def build(cls, fabric: Fabric, learner: Learner, optimizer: Optimizer) -> Engine:
        wrapped, optimizer = fabric.setup(learner, optimizer)
        learner.fast = learner.adapter.initial()
        return cls(fabric, learner, wrapped, optimizer)


class Steps(Dataset[Batch]):
    """The batches of a task by their steps, for processes that prepare them ahead."""

    def __init__(self, task: Batches, steps: int) -> None:
        self._task, self._steps = task, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        return self._task.batch(step)


def batches(task: Batches, *, steps: int, workers: int) -> Iterable[Batch]:
    """The first `steps` batches in order, the same from any number of worker processes."""
    if workers == 0:
        return map(task.batch, range(steps))
    return DataLoader(Steps(task, steps), batch_size=None, shuffle=False, num_workers=workers)


def train(
    engine: Engine,
    task: Batches,
    *,
    steps: int,
    report_every: int,
    workers: int = 0,
    schedule: Callable[[int], float] | None = None,
) -> Iterator[Progress]:
    """Take `steps` optimizer steps on `task`; yields every `report_every` steps and after the last.

    `schedule` gives the learning rate of a step. Raises NonFiniteError naming the step.
    """
    learner, optimizer = engine.learner, engine.optimizer
    losses: list[Tensor] = []
    rank, ranks = engine.fabric.global_rank, engine.fabric.world_size
    tokens, start = 0, time.perf_counter()
    for step, batch in enumerate(batches(task, steps=steps, workers=workers)):
        if schedule is not None:
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
        batch = batch.share(rank, of=ranks).to(engine.fabric.device)
        # On one device Fabric hands out the bare method, which knows nothing of `precision`.
        with engine.fabric.autocast():
            loss = engine.wrapped.training_step(batch, step)
        engine.fabric.backward(loss)
        if learner.optimizer_factory.clip is not None:
            engine.fabric.clip_gradients(engine.wrapped, optimizer, max_norm=learner.optimizer_factory.clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        tokens += batch.num_tokens * ranks
        # Reading a loss waits for the device, so it is read as seldom as it is reported.
        if (step + 1) % report_every == 0 or step + 1 == steps:
            mean = float(sum(losses) / len(losses))
            if mean != mean or mean in (float("inf"), float("-inf")):
                raise NonFiniteError(f"the loss on {task.name!r} is {mean} by step {step + 1}")
            yield Progress(step=step + 1, loss=mean, tokens=tokens, seconds=time.perf_counter() - start)
            losses, tokens, start = [], 0, time.perf_counter()
