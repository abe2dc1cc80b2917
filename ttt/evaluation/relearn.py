"""Savings (Ebbinghaus 1885): how much of the way to a criterion need not be gone again. 1 - N_again / N_first.

    savings_slow    optimizer steps: a task is learned once more, on a copy of the learner after the stream
    savings_fast    tokens read with the slow weights locked: before the task was learned, and after the stream

The criterion of savings_slow is 90 % of the way from the value before the phase that first teaches the task to the
value right after it. That of savings_fast is what reading alone reached before the task was learned: the mean loss over
the last quarter of the context in the row before. The cost of savings_slow is at most that of the stream once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ttt.metrics.anytime import criterion, first_steps
from ttt.metrics.curves import Curves, Savings, savings, to_criterion
from ttt.results.rows import Relearning
from ttt.results.scores import Scores, sign
from ttt.training.pace import rate_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from ttt.learner import Engine
    from ttt.results.results import Results
    from ttt.stream import Stream

NAN = float("nan")
SAVED = ("savings_slow", "savings_slow_censored")
SAVED_FAST = ("savings_fast", "savings_fast_censored")
# Pieces of a context over which its loss is smoothed: a quarter.
QUARTER = 4
# A task is learned until these are back, in every mode.
SOUGHT = ("loss", "accuracy", "loss_late", "accuracy_late")


def saved_again(curves: Curves, again: Relearning, *, mode: str, quantity: str) -> Savings:
    """In optimizer steps, of one task."""
    task = again["task"]
    steps = np.array(again["steps"], dtype=np.float64)
    values = sign(quantity) * np.array(again["scores"][mode][quantity])
    found = to_criterion(steps, values, criterion=criterion(curves, task=task))
    return savings(first_steps(curves, task=task), found)


def saved_by_reading(results: Results) -> list[Savings]:
    """In sixteenths of the context, of each task that was learned."""
    taught = [(j, int(row)) for j, row in enumerate(results.learned_at) if row < len(results.rows)]
    return [_by_reading(_profile(results, row - 1, j), _profile(results, -1, j)) for j, row in taught]


def _profile(results: Results, row: int, task: int) -> list[float]:
    found = results.rows[row]
    if found["profile"] is None or task not in found["columns"]:
        return []
    return found["profile"][found["columns"].index(task)]


def _by_reading(before: list[float], after: list[float]) -> Savings:
    if not before or not after:
        return Savings(NAN, False)
    first, again = _running(before), _running(after)
    if math.isnan(first[-1]) or math.isnan(again[-1]):
        return Savings(NAN, False)
    # Before anything is read, and where no token was scored yet, no criterion is met.
    pieces = np.arange(len(before) + 1, dtype=np.float64)
    oriented = [np.array([-math.inf, *(-math.inf if math.isnan(x) else -x for x in curve)]) for curve in (first, again)]
    lengths = [to_criterion(pieces, values, criterion=-first[-1]) for values in oriented]
    return savings(lengths[0], lengths[1])


def _running(pieces: list[float]) -> list[float]:
    """At each piece the mean over the last QUARTER of them that hold scored tokens."""
    means = []
    for k in range(len(pieces)):
        known = [x for x in pieces[max(0, k + 1 - QUARTER) : k + 1] if not math.isnan(x)]
        means.append(sum(known) / len(known) if known else NAN)
    return means


def relearn(engine: Engine, stream: Stream, *, results: Results, every: int) -> Iterator[Relearning]:
    """Learn each task once more on a copy, for at most the steps of the phase that first taught it.

    What comes is also kept in `results`. The copy begins each task as the stream left the learner, with fresh moments
    and without a strategy. The run's own weights, fast state and random numbers stay what they are.
    """
    from ttt.storage.checkpoint import restore_rng, rng_tensors

    random = rng_tensors()
    results.relearned = []
    try:
        for task in range(len(stream.tasks)):
            results.relearned.append(_again(engine, stream, task, results=results, every=every))
            yield results.relearned[-1]
    finally:
        restore_rng(random)


def _again(engine: Engine, stream: Stream, task: int, *, results: Results, every: int) -> Relearning:
    from ttt.evaluation.evaluate import evaluate
    from ttt.training.train import train

    place = int(stream.learned_at[task]) - 1
    phase, before = stream.phases[place], sum(phase.steps for phase in stream.phases[:place])
    before = 0 if engine.learner.strategy.is_fresh else before
    batch = stream.tasks[task].evaluation()
    rate = rate_of(engine.pace, before=before, steps=phase.steps, of=stream.steps)
    with borrowed(engine) as own:
        own.learner.begin_task()
        found: Relearning = {"task": task, "steps": [], "scores": {}}
        _append(found, 0, evaluate(own, [batch]))
        steps = train(own, phase, steps=phase.steps, report_every=every, rate=rate)
        while not _is_back(results, found):
            progress = next(steps, None)
            if progress is None:
                break
            _append(found, progress.step, evaluate(own, [batch]))
    return found


@contextmanager
def borrowed(engine: Engine) -> Iterator[Engine]:
    """The learner with fresh moments and without a strategy; afterwards everything is what it was, bit for bit.

    Weights are put aside and put back: a copy of the whole learner would take along all that hooks and adapters hold.
    """
    import torch

    from ttt.strategies.naive import Naive

    learner = engine.learner
    fast, strategy = learner.fast, learner.strategy
    own = [*learner.parameters(), *learner.buffers()]
    kept = [x.detach().clone() for x in own]
    gradients = [parameter.grad for parameter in learner.parameters()]
    learner.strategy, learner.fast = Naive(name="naive"), {name: x.clone() for name, x in fast.items()}
    learner.zero_grad()
    try:
        yield replace(engine, optimizer=_fresh_optimizer(engine))
    finally:
        with torch.no_grad():
            for x, before in zip(own, kept, strict=True):
                x.copy_(before)
        for parameter, gradient in zip(learner.parameters(), gradients, strict=True):
            parameter.grad = gradient
        learner.strategy, learner.fast = strategy, fast


def _fresh_optimizer(engine: Engine) -> Optimizer:
    from ttt.devices.one_device import OneDevice

    optimizer = engine.learner.configure_optimizers()
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    if not isinstance(engine.fabric, OneDevice):
        made: Any = engine.fabric.setup_optimizers(optimizer)
        optimizer = made
    return optimizer


def _append(found: Relearning, step: int, scores: Scores) -> None:
    found["steps"].append(step)
    for mode, quantities in scores.items():
        for quantity, values in quantities.items():
            found["scores"].setdefault(mode, {}).setdefault(quantity, []).extend(values)


def _is_back(results: Results, found: Relearning) -> bool:
    """Is every criterion met that there is?"""
    from ttt.results.catalogue import curves_of

    for mode in results.modes:
        for quantity in SOUGHT:
            goal = criterion(curves_of(results, mode, quantity), task=found["task"])
            best = max(sign(quantity) * x for x in found["scores"][mode][quantity])
            if goal == goal and not best >= goal:
                return False
    return True
