"""The stream loop: learn a task, evaluate tasks in every mode, save; on to the next."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttt.evaluation import anytime
from ttt.evaluation.diagnose import Diagnosis
from ttt.evaluation.evaluate import Plan, evaluate, evaluate_along
from ttt.evaluation.relearn import relearn
from ttt.learner import Engine
from ttt.results.events import Evaluated, Event, Observer, Relearned, Trained
from ttt.results.results import Results
from ttt.run.resume import save
from ttt.storage.journal import Journal
from ttt.stream import Stream
from ttt.training.clock import Clock
from ttt.training.pace import rate_of
from ttt.training.train import Progress, train


def run_stream(
    engine: Engine,
    stream: Stream,
    *,
    plan: Plan,
    results: Results,
    clock: Clock,
    journal: Journal | None,
    observers: Sequence[Observer],
    folder: Path,
    report_every: int,
    workers: int,
    diagnosis: Diagnosis | None = None,
) -> None:
    """Go on from what `results` already holds to the end of the stream. Only the first of several processes has a
    journal, and writes. `diagnosis` was made at the base."""
    # The journal comes first: a number is on its way to the disk before anyone sees it.
    observers = [*([journal] if journal else []), *observers]
    results.every = plan.anytime or 0
    given: Any = {"plan": plan, "results": results, "clock": clock, "observers": observers}
    if not results.rows:
        measure(engine, stream, diagnosis=diagnosis, **given)
        save(engine, results=results, clock=clock, journal=journal, folder=folder)
    for index in range(len(results.rows) - 1, len(stream.phases)):
        phase = stream.phases[index]
        if phase.announced:
            clock.between += begin_task(engine, index)
        learn(engine, stream, index, report_every=report_every, workers=workers, **given)
        engine.learner.objective.learned(engine.learner, phase.task)
        if phase.announced:
            start = time.perf_counter()
            engine.learner.strategy.end_task(engine, index)
            clock.between += time.perf_counter() - start
        measure(engine, stream, diagnosis=diagnosis, **given)
        save(engine, results=results, clock=clock, journal=journal, folder=folder)
    if plan.savings:
        start = time.perf_counter()
        for found in relearn(engine, stream, results=results, every=results.every):
            tell(observers, Relearned(**found, **clock.tick()))
        clock.evaluation += time.perf_counter() - start


def learn(
    engine: Engine,
    stream: Stream,
    index: int,
    *,
    plan: Plan,
    results: Results,
    clock: Clock,
    observers: Sequence[Observer],
    report_every: int,
    workers: int,
) -> None:
    """The steps of one phase, with reports, and evaluations where the plan says so."""
    phase, before, reported = stream.phases[index], clock.step, 0
    past = 0 if engine.learner.strategy.is_fresh else before
    rate = rate_of(engine.pace, before=past, steps=phase.steps, of=stream.steps)
    every = anytime.pieces(plan, report_every=report_every)
    parts: list[Progress] = []
    for progress in train(engine, phase, steps=phase.steps, report_every=every, workers=workers, rate=rate):
        clock.step = before + progress.step
        clock.tokens += progress.tokens
        clock.training += progress.seconds
        parts.append(progress)
        if progress.step % report_every == 0 or progress.step == phase.steps:
            done = anytime.joined(parts, since=reported)
            parts, reported = [], progress.step
            event = Trained(
                task=index + 1,
                task_name=phase.name,
                task_step=done.step,
                task_steps=phase.steps,
                tokens_per_second=done.tokens / done.seconds,
                loss=done.loss / math.log(2),
                lr=done.lr,
                terms=done.terms | done.watched,
                **clock.tick(),
            )
            tell(observers, event)
        if anytime.is_due(plan, progress.step, of=phase.steps):
            found = anytime.look(engine, stream, index=index, task_step=progress.step, results=results, clock=clock)
            tell(observers, found)


def begin_task(engine: Engine, index: int) -> float:
    """The seconds of it that the strategy took."""
    engine.learner.begin_task()
    if engine.pace.reset == "task":
        engine.forget_moments()
    start = time.perf_counter()
    engine.learner.strategy.begin_task(engine, index)
    return time.perf_counter() - start


def measure(
    engine: Engine,
    stream: Stream,
    *,
    plan: Plan,
    results: Results,
    clock: Clock,
    observers: Sequence[Observer],
    diagnosis: Diagnosis | None,
) -> None:
    """Add one row to R: the tasks that the plan says, and sometimes the base, in every mode."""
    row, start = len(results.rows), time.perf_counter()
    columns = plan.columns(row, stream=stream)
    current = stream.phases[row - 1].task if row else None
    scores, profile = evaluate_along(engine, [stream.tasks[j].evaluation() for j in columns], tasks=columns)
    base = None
    if stream.base is not None and plan.has_base(row, stream=stream):
        base = evaluate(engine, [stream.base.evaluation()], tasks=[None])
    with engine.parameters_whole():
        diagnostics = engine.learner.adapter.diagnostics(engine.whole_fast())
    if diagnosis is not None:
        diagnostics |= diagnosis.measure(engine)
    clock.evaluation += time.perf_counter() - start
    results.add(
        columns=columns,
        scores=scores,
        base=base,
        step=clock.step,
        current=current,
        diagnostics=diagnostics,
        profile=profile,
    )
    event = Evaluated(
        row=row,
        columns=columns,
        current=current,
        seen=[j for j, first in enumerate(stream.learned_at) if first <= row],
        tasks=scores,
        base=base,
        diagnostics=diagnostics,
        profile=profile,
        **clock.tick(),
    )
    tell(observers, event)


def tell(observers: Sequence[Observer], event: Event) -> None:
    for observer in observers:
        observer(event)
