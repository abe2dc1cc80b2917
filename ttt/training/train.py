"""Optimizer steps: the one inner loop that the base and every task share.

Here alone a strategy's memory rows join a batch, and its terms join the loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ttt.adapters.base import FastState
from ttt.devices.collective import collect, deal, mean, mean_over_devices, over_devices
from ttt.devices.shards import average_whole, clip
from ttt.learner import Engine, Learner, num_scored
from ttt.optimizers.eager import step_and_clear
from ttt.stream import Batch
from ttt.training.finite import NonFiniteError, Skipping, check_finite_values
from ttt.training.recipe import Recipe


class Batches(Protocol):
    """What one learns from: a task or a phase. A batch is a pure function of its step."""

    @property
    def name(self) -> str: ...

    def batch(self, step: int) -> Batch: ...


@dataclass(frozen=True)
class Progress:
    """Steps done in this task so far; `loss` is the mean in nats since the last report.

    `lr`: the slow learning rate of the last step. `terms`: what strategy and objective watch, as it
    stands. `watched`: means of what the objective watches since the last report.
    """

    step: int
    loss: float
    tokens: int
    seconds: float
    lr: float
    terms: dict[str, float]
    watched: dict[str, float]


class TaskSteps(Dataset[Batch]):
    """The batches of a task by their steps, for processes that prepare them ahead."""

    def __init__(self, task: Batches, steps: int) -> None:
        self._task, self._steps = task, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        return self._task.batch(step)


def batches(task: Batches, *, steps: int, workers: int, start: int = 0) -> Iterable[Batch]:
    """The batches from `start` to `steps` in order, the same from any number of processes."""
    if workers == 0:
        return map(task.batch, range(start, steps))
    return DataLoader(
        TaskSteps(task, steps),
        batch_size=None,
        sampler=range(start, steps),
        num_workers=workers,
        # A loader draws a seed for its processes, and not from the generator of the run: that must
        # not depend on how often a run was stopped.
        generator=torch.Generator(),
    )


def train(
    engine: Engine,
    task: Batches,
    *,
    recipe: Recipe,
    steps: int,
    report_every: int,
    start: int = 0,
    workers: int = 0,
    rate: Callable[[int], float] | None = None,
    lifetime: int | None = None,
    skips: bool = False,
) -> Iterator[Progress]:
    """Learn from `steps` batches of `task`; yield every `report_every` of them and after the last.

    `start`: how many were learned before. `rate` gives the share of the learning rate at a step.
    `lifetime`: after how many batches the fast state starts anew, where it is carried from batch to
    batch (None: never). `skips`: a step of the slow weights whose loss or gradient is not finite
    moves nothing. Raises NonFiniteError naming the task and the step.
    """
    learns, pace, dropout = recipe.strategy.learns, recipe.pace, recipe.dropout
    skipping = Skipping(engine) if skips else None
    losses: list[Tensor] = []
    tokens, since = 0, time.perf_counter()
    for step, batch in enumerate(batches(task, steps=steps, workers=workers, start=start), start):
        batch = batch.to(engine.fabric.device)
        if lifetime is not None and step % lifetime == 0:
            engine.learner.begin_task()
        if skipping is not None:
            skipping.begin_batch()
        if rate is not None:  # Where no step is due too: so a run that goes on reports the same rate.
            engine.scale_rate(rate(step))
        with dropout.reading(engine.learner, task.name, step):
            loss = _backward(engine, recipe, batch, step=step, share=pace.group(step, of=steps))
        if skipping is None or skipping.is_finite(loss):
            losses.append(loss)
        if pace.is_due(step, of=steps) and (skipping is None or skipping.is_sound()) and learns:
            _move(engine, recipe)
        tokens += batch.num_tokens
        # Reading a loss waits for the device, so it is read only as often as it is reported.
        if (step + 1) % report_every == 0 or step + 1 == steps:
            progress = _progress(engine, recipe, task, step=step + 1, losses=losses, tokens=tokens, since=since)
            yield progress if skipping is None else replace(progress, watched=progress.watched | skipping.share())
            losses, tokens, since = [], 0, time.perf_counter()


def _progress(
    engine: Engine, recipe: Recipe, task: Batches, *, step: int, losses: list[Tensor], tokens: int, since: float
) -> Progress:
    """A report, once every value in it was found to be finite."""
    strategy = recipe.strategy
    if not losses:
        raise NonFiniteError(f"no loss on {task.name!r} was finite since the last report, by step {step}")
    loss = float(over_devices(engine.fabric, torch.stack(losses).mean()))
    terms, counts, watched = strategy.terms(), recipe.objective.terms(), recipe.objective.watched()
    named = {f"{strategy.name}'s {name}": x for name, x in terms.items()}
    check_finite_values({"loss": loss, **named, **counts, **watched}, on=task.name, step=step)
    return Progress(
        step=step,
        loss=loss,
        tokens=tokens,
        seconds=time.perf_counter() - since,
        lr=engine.optimizer.param_groups[0]["lr"],
        terms=terms | counts,
        watched=watched,
    )


def _move(engine: Engine, recipe: Recipe) -> None:
    """Take one step of the slow weights."""
    strategy = recipe.strategy
    if engine.is_sharded:
        average_whole(engine.fabric, engine.order)
    if recipe.dropout.share:
        _fill_gradients(engine)
    # Penalties come before clipping: the norm that is bounded is that of the whole step.
    strategy.gradients(engine)
    _clip(engine)
    step_and_clear(engine.optimizer)
    strategy.stepped(engine)


def _fill_gradients(engine: Engine) -> None:
    """Give a gradient of zero to parameters that no batch of this step used.

    Moments then decay alike on all devices, whether or not they asked for a gradient.
    """
    for parameter in engine.order:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def loss_of(learner: Learner, recipe: Recipe, batch: Batch, *, step: int) -> Tensor:
    """The loss of a batch with the strategy's memory rows and terms, in nats."""
    strategy, task_rows = recipe.strategy, len(batch.tokens_BT)
    memory = strategy.memory(batch, step=step)
    if memory is not None:
        batch = Batch.stack([batch, memory])
    loss = recipe.objective.loss(learner, batch, own=task_rows, learns=strategy.learns, whole=strategy.reads_logits)
    if loss.logits_BTV is None:
        return loss.value
    extra = strategy.extra(learner, batch, loss.logits_BTV, own=task_rows)
    return loss.value if extra is None else loss.value + extra


def _backward(engine: Engine, recipe: Recipe, batch: Batch, *, step: int, share: int) -> Tensor:
    """Add gradients of `batch`'s mean loss per scored token, over `share`; return that loss."""
    if engine.parts > 1:
        return _backward_in_parts(engine, recipe, batch, step=step, share=share)
    if not recipe.strategy.learns:
        with torch.no_grad(), engine.fabric.autocast():
            return loss_of(engine.learner, recipe, batch, step=step)
    with engine.fabric.autocast():
        loss = loss_of(engine.learner, recipe, batch, step=step)
    engine.backward(loss if share == 1 else loss / share)
    return loss.detach()


def _backward_in_parts(engine: Engine, recipe: Recipe, batch: Batch, *, step: int, share: int) -> Tensor:
    """The same for this device's rows, part after part.

    Parts hold different numbers of scored tokens, so each sums its nats and one weight serves them
    all.
    """
    fabric, learner, learns = engine.fabric, engine.learner, recipe.strategy.learns
    wrapped: Any = engine.wrapped
    memory = recipe.strategy.memory(batch, step=step)
    rows = [batch] if memory is None else [batch, memory]
    # DDP averages gradients over devices; the factor undoes that.
    weight = fabric.world_size / sum(num_scored(x) for x in rows)
    rows = [engine.own_rows(x) for x in rows]
    losses: list[Tensor] = []
    after: list[FastState] = []
    for part in range(engine.accumulate):
        state = deal(learner.fast, part, of=engine.accumulate)
        shares = [x.share(part, of=engine.accumulate) for x in rows]
        last = part + 1 == engine.accumulate
        with _unsynced(fabric, wrapped, enabled=not last), torch.set_grad_enabled(learns):
            with fabric.autocast():
                lanes = len(shares[0].tokens_BT)
                nats, state = wrapped.score(Batch.stack(shares), state, own=lanes, context=engine.context)
                loss = nats * weight
            if learns:
                engine.backward(loss / share)
        losses.append(loss.detach())
        if learner.adapter.reset != "sequence":
            after.append(engine.carried(state))
    if after:
        learner.fast = mean_over_devices(fabric, mean(after)) if engine.merges else collect(after)
    return torch.stack(losses).sum()


def _unsynced(fabric: Any, wrapped: Any, *, enabled: bool) -> AbstractContextManager[Any]:
    """Keep the devices from averaging their gradients while open."""
    several: AbstractContextManager[Any] = (
        fabric.no_backward_sync(wrapped, enabled=enabled) if fabric.world_size > 1 else nullcontext()
    )
    return several


def _clip(engine: Engine) -> None:
    limit = engine.learner.optimizer_factory.clip
    if limit is None:
        return
    if engine.is_sharded:
        clip(engine.order, max_norm=limit)
    else:
        engine.fabric.clip_gradients(engine.wrapped, engine.optimizer, max_norm=limit)
