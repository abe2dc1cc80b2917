"""Relearning: each task is learned once more after the stream, on a copy of the learner.

How much shorter the way is than the first time is savings_slow, see ttt.results.savings. This costs
at most what the stream itself cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.optim import Optimizer

from ttt.devices.one_device import OneDevice
from ttt.evaluation.evaluate import evaluate
from ttt.learner import Engine
from ttt.metrics.anytime import criterion
from ttt.results.results import Results
from ttt.results.rows import Relearning
from ttt.results.scores import Scores, sign
from ttt.storage.checkpoint import restore_rng, rng_tensors
from ttt.strategies.naive import Naive
from ttt.stream import Stream
from ttt.training.recipe import Recipe
from ttt.training.train import train

# A task is learned until these are back, in every mode.
SOUGHT = ("loss", "accuracy", "loss_late", "accuracy_late")


def relearn(engine: Engine, stream: Stream, *, recipe: Recipe, results: Results, every: int) -> Iterator[Relearning]:
    """Learn each task once more on a copy, for at most the steps of the phase that first taught it.

    Also keep what is yielded in `results`. The copy begins each task as the stream left the
    learner, with fresh moments and without a strategy. The run's own weights, fast state and random
    numbers stay what they are.
    """
    random = rng_tensors()
    results.relearned = []
    try:
        for task in range(len(stream.tasks)):
            results.relearned.append(_again(engine, stream, task, recipe=recipe, results=results, every=every))
            yield results.relearned[-1]
    finally:
        restore_rng(random)


def _again(engine: Engine, stream: Stream, task: int, *, recipe: Recipe, results: Results, every: int) -> Relearning:
    """Learn one task again until every criterion is met, or its steps are used up."""
    place = int(stream.learned_at[task]) - 1
    phase, before = stream.phases[place], sum(phase.steps for phase in stream.phases[:place])
    before = 0 if recipe.strategy.is_fresh else before
    plain = replace(recipe, strategy=Naive(name="naive"))
    rate = recipe.pace.rate(before=before, steps=phase.steps, of=stream.steps)
    batch = stream.tasks[task].evaluation()
    with borrowed(engine) as copy:
        copy.learner.begin_task()
        again: Relearning = {"task": task, "steps": [], "scores": {}}
        _append(again, 0, evaluate(copy, [batch], recipe=plain, token_bytes=stream.token_bytes))
        reports = train(copy, phase, recipe=plain, steps=phase.steps, report_every=every, rate=rate)
        while not _is_back(results, again):
            progress = next(reports, None)
            if progress is None:
                break
            _append(again, progress.step, evaluate(copy, [batch], recipe=plain, token_bytes=stream.token_bytes))
    return again


@contextmanager
def borrowed(engine: Engine) -> Iterator[Engine]:
    """The learner with fresh moments; afterwards everything is what it was, bit for bit.

    Weights are put aside and put back, because a copy of the whole learner would take along all
    that hooks and adapters hold.
    """
    learner = engine.learner
    fast = learner.fast
    tensors = [*learner.parameters(), *learner.buffers()]
    before = [x.detach().clone() for x in tensors]
    gradients = [parameter.grad for parameter in learner.parameters()]
    learner.fast = {name: x.clone() for name, x in fast.items()}
    learner.zero_grad()
    try:
        yield replace(engine, optimizer=_fresh_optimizer(engine))
    finally:
        with torch.no_grad():
            for x, value in zip(tensors, before, strict=True):
                x.copy_(value)
        for parameter, gradient in zip(learner.parameters(), gradients, strict=True):
            parameter.grad = gradient
        learner.fast = fast


def _fresh_optimizer(engine: Engine) -> Optimizer:
    optimizer = engine.learner.configure_optimizers()
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    if isinstance(engine.fabric, OneDevice):
        return optimizer
    set_up: Any = engine.fabric.setup_optimizers(optimizer)
    assert isinstance(set_up, Optimizer)
    return set_up


def _append(again: Relearning, step: int, scores: Scores) -> None:
    again["steps"].append(step)
    for mode, quantities in scores.items():
        for quantity, values in quantities.items():
            again["scores"].setdefault(mode, {}).setdefault(quantity, []).extend(values)


def _is_back(results: Results, again: Relearning) -> bool:
    """Is every criterion met that there is?"""
    for mode in results.modes:
        for quantity in SOUGHT:
            goal = criterion(results.curves(mode, quantity), task=again["task"])
            best = max(sign(quantity) * x for x in again["scores"][mode][quantity])
            # A goal that is NaN asks for nothing.
            if goal == goal and not best >= goal:
                return False
    return True
