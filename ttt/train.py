"""Optimizer steps: the one inner loop that the base and every task share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from ttt.adapters.base import FastState, shared
from ttt.learner import Learner, num_scored
from ttt.ranks import collect, collect_over_devices, deal, mean, mean_over_devices, merges_lanes, over_devices
from ttt.shards import average_whole, clip, follow, unsharded
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
    """A learner set up on its devices: `wrapped` is what Fabric made of it (precision, DDP, FSDP2).

    `order`: its parameters as the optimizer numbers them, whatever the devices. `accumulate`: the parts of this
    device's rows that are read one after another. `merges`: is one fast state carried on, not one for each lane?
    """

    fabric: Fabric
    learner: Learner
    wrapped: Learner
    optimizer: Optimizer
    order: Sequence[nn.Parameter]
    accumulate: int
    merges: bool

    @classmethod
    def build(cls, fabric: Fabric, learner: Learner, optimizer: Optimizer, *, accumulate: int = 1) -> Engine:
        if isinstance(fabric.strategy, ModelParallelStrategy):
            wrapped, optimizer, order = _build_sharded(fabric, learner, optimizer)
        else:
            order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            wrapped, optimizer = fabric.setup(learner, optimizer)
            if fabric.world_size > 1:
                wrapped.mark_forward_method("score")
        learner.fast = learner.adapter.initial()
        merges = merges_lanes(learner.adapter)
        return cls(fabric, learner, wrapped, optimizer, order=order, accumulate=accumulate, merges=merges)

    @property
    def is_sharded(self) -> bool:
        return isinstance(self.fabric.strategy, ModelParallelStrategy)

    @property
    def parts(self) -> int:
        return self.fabric.world_size * self.accumulate

    def shared_fast(self) -> FastState:
        """The carried state as one lane, the same on every device."""
        state = shared(self.learner.fast)
        return state if self.merges else mean_over_devices(self.fabric, state)

    def whole_fast(self) -> FastState:
        """The carried state of all lanes, as one device would have it."""
        return self.learner.fast if self.merges else collect_over_devices(self.fabric, self.learner.fast)

    def parameters_whole(self) -> AbstractContextManager[None]:
        """For a look at parameters outside a pass."""
        return unsharded(self.learner) if self.is_sharded else nullcontext()


def _build_sharded(
    fabric: Fabric, learner: Learner, optimizer: Optimizer
) -> tuple[Learner, Optimizer, Sequence[nn.Parameter]]:
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    wrapped: Any = fabric.setup_module(learner)
    follow(optimizer, names, learner)
    now = dict(learner.named_parameters())
    set_up: Any = fabric.setup_optimizers(optimizer)
    return wrapped, set_up, [now[name] for name in order]


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
    optimizer = engine.optimizer
    losses: list[Tensor] = []
    tokens, start = 0, time.perf_counter()
    for step, batch in enumerate(batches(task, steps=steps, workers=workers)):
        if schedule is not None:
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
        losses.append(_backward(engine, batch.to(engine.fabric.device), step=step))
        _clip(engine)
        optimizer.step()
        optimizer.zero_grad()
        tokens += batch.num_tokens
        # Reading a loss waits for the device, so it is read as seldom as it is reported.
        if (step + 1) % report_every == 0 or step + 1 == steps:
            mean = float(over_devices(engine.fabric, torch.stack(losses).mean()))
            if mean != mean or mean in (float("inf"), float("-inf")):
                raise NonFiniteError(f"the loss on {task.name!r} is {mean} by step {step + 1}")
            yield Progress(step=step + 1, loss=mean, tokens=tokens, seconds=time.perf_counter() - start)
            losses, tokens, start = [], 0, time.perf_counter()


def _backward(engine: Engine, batch: Batch, *, step: int) -> Tensor:
    """Gradients of the mean loss over all scored tokens of `batch`; its mean over devices is returned loss."""
    if engine.parts > 1:
        return _backward_in_parts(engine, engine.learner.strategy.mix(batch, step=step))
    # On one device Fabric hands out the bare method, which knows nothing of `precision`.
    with engine.fabric.autocast():
        loss = engine.wrapped.training_step(batch, step)
    engine.fabric.backward(loss)
    return loss.detach()


def _backward_in_parts(engine: Engine, batch: Batch) -> Tensor:
    """This device's share, part after part. Parts hold different numbers of scored tokens: sums are weighted once."""
    fabric, learner = engine.fabric, engine.learner
    wrapped: Any = engine.wrapped
    assert len(batch.tokens_BT) % engine.parts == 0, "rows of a batch divide by devices and accumulation"
    # Gradients become their mean over devices.
    weight = fabric.world_size / num_scored(batch)
    share = batch.share(fabric.global_rank, of=fabric.world_size)
    losses: list[Tensor] = []
    after: list[FastState] = []
    for part in range(engine.accumulate):
        last = part + 1 == engine.accumulate
        state = deal(learner.fast, part, of=engine.accumulate)
        with fabric.no_backward_sync(wrapped, enabled=not last):
            with fabric.autocast():
                nats, state = wrapped.score(share.share(part, of=engine.accumulate), state)
                loss = nats * weight
                if last:
                    loss = learner.strategy.penalize(loss, learner.model)
            fabric.backward(loss)
        losses.append(loss.detach())
        if learner.adapter.reset != "sequence":
            after.append(learner.adapter.carry(state))
    if after:
        learner.fast = mean_over_devices(fabric, mean(after)) if engine.merges else collect(after)
    return torch.stack(losses).sum()


def _clip(engine: Engine) -> None:
    limit = engine.learner.optimizer_factory.clip
    if engine.is_sharded:
        average_whole(engine.fabric, engine.order)
    if limit is None:
        return
    if engine.is_sharded:
        clip(engine.order, max_norm=limit)
    else:
        engine.fabric.clip_gradients(engine.wrapped, engine.optimizer, max_norm=limit)
