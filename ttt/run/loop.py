"""The stream loop: learn a task, evaluate tasks in every mode, save; on to the next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ttt.evaluation.anytime import is_due, joined_progress, measure_inside, piece_length
from ttt.evaluation.diagnose import Diagnosis
from ttt.evaluation.evaluate import evaluate, evaluate_along
from ttt.evaluation.known import measure_known
from ttt.evaluation.plan import Plan
from ttt.evaluation.relearn import relearn
from ttt.learner import Engine
from ttt.results.events import Evaluated, Event, Observer, Relearned, Trained
from ttt.results.results import Results
from ttt.run.resume import save_run
from ttt.storage.journal import Journal
from ttt.stream import KnownSets, Phase, Stream
from ttt.training.clock import Clock
from ttt.training.recipe import Recipe
from ttt.training.train import Progress, train


@dataclass
class Session:
    """Everything that a stream in progress works with.

    `journal` is None in all processes but the first, which alone writes. `checkpoints` is the
    folder that they go to. `known_sets`: what the model may know before the stream. `diagnosis` was
    made at the base. `report_every`: steps between two lines of metrics; `workers`: processes that
    prepare batches ahead.
    """

    engine: Engine
    stream: Stream
    recipe: Recipe
    plan: Plan
    results: Results
    clock: Clock
    checkpoints: Path
    journal: Journal | None = None
    observers: Sequence[Observer] = field(default=())
    known_sets: KnownSets = field(default_factory=KnownSets)
    diagnosis: Diagnosis | None = None
    report_every: int = 10
    workers: int = 0

    def publish(self, event: Event) -> None:
        """Tell everybody, the journal first: numbers head for the disk before anyone sees them."""
        if self.journal is not None:
            self.journal(event)
        for observer in self.observers:
            observer(event)

    def between(self, action: Callable[[], None]) -> None:
        """Count the time of what the strategy does between tasks."""
        start = time.perf_counter()
        action()
        self.clock.between += time.perf_counter() - start

    def save(self) -> None:
        """Write a checkpoint of the stream as it stands after a row of R."""
        save_run(
            self.engine,
            self.recipe,
            results=self.results,
            clock=self.clock,
            journal=self.journal,
            folder=self.checkpoints,
        )


def run_stream(session: Session) -> None:
    """Go on from what the results already hold to the end of the stream."""
    session.results.every = session.plan.anytime or 0
    if not session.results.rows:
        measure_row(session)
        session.save()
    for index in range(len(session.results.rows) - 1, len(session.stream.phases)):
        run_phase(session, index)
        measure_row(session)
        session.save()
    if session.plan.savings:
        _relearn(session)


def run_phase(session: Session, index: int) -> None:
    """Learn one phase (from 0), between the calls that an announced task gets."""
    engine, recipe = session.engine, session.recipe
    phase = session.stream.phases[index]
    if phase.announced:
        reset_for_task(engine, recipe)
        session.between(lambda: recipe.strategy.begin_task(engine, index))
    learn(session, phase, index)
    recipe.objective.learned(engine.learner, phase.task)
    if phase.announced:
        session.between(lambda: recipe.strategy.end_task(engine, index))


def reset_for_task(engine: Engine, recipe: Recipe) -> None:
    """Return fast state and moments to their start, where their lifetime is a task."""
    engine.learner.begin_task()
    if recipe.pace.reset == "task":
        engine.forget_moments()


def learn(session: Session, phase: Phase, index: int) -> None:
    """Take the steps of one phase, with reports, and evaluations where the plan says so."""
    clock, plan, recipe = session.clock, session.plan, session.recipe
    before, reported = clock.step, 0
    # A strategy that begins every task anew begins its schedule anew too.
    past = 0 if recipe.strategy.is_fresh else before
    rate = recipe.pace.rate(before=past, steps=phase.steps, of=session.stream.steps)
    every = piece_length(plan, report_every=session.report_every)
    pieces: list[Progress] = []
    for progress in train(
        session.engine,
        phase,
        recipe=recipe,
        steps=phase.steps,
        report_every=every,
        workers=session.workers,
        rate=rate,
    ):
        clock.step = before + progress.step
        clock.tokens += progress.tokens
        clock.training += progress.seconds
        pieces.append(progress)
        if progress.step % session.report_every == 0 or progress.step == phase.steps:
            session.publish(_trained(session, phase, index, joined_progress(pieces, since=reported)))
            pieces, reported = [], progress.step
        if is_due(plan, progress.step, of=phase.steps):
            session.publish(
                measure_inside(
                    session.engine,
                    session.stream,
                    recipe=recipe,
                    index=index,
                    task_step=progress.step,
                    results=session.results,
                    clock=clock,
                )
            )


def _trained(session: Session, phase: Phase, index: int, done: Progress) -> Trained:
    return Trained(
        task=index + 1,
        task_name=phase.name,
        task_step=done.step,
        task_steps=phase.steps,
        tokens_per_second=done.tokens / done.seconds,
        loss=done.loss / math.log(2),
        lr=done.lr,
        terms=done.terms | done.watched,
        **session.clock.tick(),
    )


def measure_row(session: Session) -> None:
    """Add one row to R: the tasks that the plan says, and sometimes the base, in every mode."""
    engine, stream, recipe, results = session.engine, session.stream, session.recipe, session.results
    row, start = len(results.rows), time.perf_counter()
    columns = session.plan.columns(row, stream=stream)
    current = stream.phases[row - 1].task if row else None
    batches = [stream.tasks[j].evaluation() for j in columns]
    scores, profile = evaluate_along(
        engine, batches, recipe=recipe, tasks=columns, token_bytes=stream.token_bytes, answers=stream.answers
    )
    base, known_scores = None, {}
    if session.plan.has_base(row, stream=stream):
        if stream.base is not None:
            rows = [stream.base.evaluation()]
            base = evaluate(
                engine, rows, recipe=recipe, tasks=[None], token_bytes=stream.token_bytes, answers=stream.answers
            )
        known_scores = measure_known(engine, session.known_sets, recipe=recipe, token_bytes=stream.token_bytes)
    diagnostics = _diagnostics(session)
    session.clock.evaluation += time.perf_counter() - start
    results.add(
        columns=columns,
        scores=scores,
        base=base,
        step=session.clock.step,
        current=current,
        diagnostics=diagnostics,
        profile=profile,
        known_sets=known_scores,
    )
    session.publish(
        Evaluated(
            row=row,
            columns=columns,
            current=current,
            seen=[j for j, first in enumerate(stream.learned_at) if first <= row],
            tasks=scores,
            base=base,
            diagnostics=diagnostics,
            profile=profile,
            known_sets=known_scores,
            **session.clock.tick(),
        )
    )


def _diagnostics(session: Session) -> dict[str, float]:
    """What the adapter says of its state, and the probes of plasticity and drift."""
    engine = session.engine
    with engine.parameters_whole():
        numbers = engine.learner.adapter.diagnostics(engine.whole_fast())
    if session.diagnosis is not None:
        numbers |= session.diagnosis.measure(engine)
    return numbers


def _relearn(session: Session) -> None:
    """Learn each task once more on a copy, after the stream."""
    start, results = time.perf_counter(), session.results
    for again in relearn(session.engine, session.stream, recipe=session.recipe, results=results, every=results.every):
        session.publish(Relearned(**again, **session.clock.tick()))
    session.clock.evaluation += time.perf_counter() - start
