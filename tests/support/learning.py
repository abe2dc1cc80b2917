"""A task learned as the stream loop learns it, without the loop's evaluations, reports and checkpoints."""

from __future__ import annotations

from ttt.learner import Engine
from ttt.run.assemble import Assembly
from ttt.run.loop import begin_task
from ttt.training.train import Progress, train


def learn_task(engine: Engine, assembly: Assembly, index: int, *, ends: bool = True) -> list[Progress]:
    """What is known after each step. `ends`: also what the strategy does at the end of an announced task."""
    phase = assembly.stream.phases[index]
    if phase.announced:
        begin_task(engine, index)
    learned = list(train(engine, phase, steps=phase.steps, report_every=1))
    if phase.announced and ends:
        engine.learner.strategy.end_task(engine, index)
    return learned
