"""A task learned as the stream loop learns it, without the loop's evaluations, reports and checkpoints."""

from __future__ import annotations

from ttt.learner import Engine
from ttt.run.assemble import Assembly
from ttt.run.loop import reset_for_task
from ttt.training.train import Progress, train


def begin_task(engine: Engine, assembly: Assembly, index: int) -> None:
    """What happens before the first step of an announced task."""
    reset_for_task(engine, assembly.recipe)
    assembly.recipe.strategy.begin_task(engine, index)


def learn_task(engine: Engine, assembly: Assembly, index: int, *, ends: bool = True) -> list[Progress]:
    """The reports of each step. `ends`: also call what the strategy does at the end of an announced task."""
    phase = assembly.stream.phases[index]
    if phase.announced:
        begin_task(engine, assembly, index)
    reports = list(train(engine, phase, recipe=assembly.recipe, steps=phase.steps, report_every=1))
    if phase.announced and ends:
        assembly.recipe.strategy.end_task(engine, index)
    return reports
