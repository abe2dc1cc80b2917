"""Learners set up and taught as a run does it, without evaluations, reports and checkpoints."""

from __future__ import annotations

from ttt.learner import Engine
from ttt.run.assemble import Assembly
from ttt.run.loop import reset_for_task
from ttt.training.train import Progress, train


def engine_of(assembly: Assembly) -> Engine:
    """Set up the learner of an assembly on its device, with random weights."""
    return assembly.engine(assembly.settings.fabric(), None)


def losses_of(engine: Engine, assembly: Assembly, index: int, *, steps: int) -> list[float]:
    """Learn the first `steps` batches of a phase; return the loss of each step."""
    phase = assembly.stream.phases[index]
    return [report.loss for report in train(engine, phase, recipe=assembly.recipe, steps=steps, report_every=1)]


def begin_task(engine: Engine, assembly: Assembly, index: int) -> None:
    """Do what comes before the first step of an announced task."""
    reset_for_task(engine, assembly.recipe)
    assembly.recipe.strategy.begin_task(engine, index)


def learn_task(engine: Engine, assembly: Assembly, index: int, *, ends: bool = True) -> list[Progress]:
    """Learn a phase; return a report for each step.

    `ends`: also call what the strategy does at the end of an announced task.
    """
    phase = assembly.stream.phases[index]
    if phase.announced:
        begin_task(engine, assembly, index)
    reports = list(train(engine, phase, recipe=assembly.recipe, steps=phase.steps, report_every=1))
    if phase.announced and ends:
        assembly.recipe.strategy.end_task(engine, index)
    return reports
