"""The stream loop: learn a task, evaluate tasks in every mode, save; on to the next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from ttt.evaluation.anytime import is_due, joined_progress, measure_inside, piece_length
from ttt.evaluation.evaluate import evaluate_along
from ttt.evaluation.known import measure_known
from ttt.evaluation.relearn import relearn
from ttt.learner import Engine
from ttt.results.events import Evaluated, Relearned, Trained
from ttt.results.scores import Scores
from ttt.run.samples import write_samples
from ttt.run.session import Session
from ttt.stream import Batch, Phase
from ttt.training.recipe import Recipe
from ttt.training.train import Progress, train


def run_stream(session: Session) -> None:
    """Go on from what the results already hold to the end of the stream."""
    session.results.every = session.plan.anytime or 0
    session.saving.restart(session.clock.step)
    if not session.results.rows:
        end_row(session)
    for index in range(len(session.results.rows) - 1, len(session.stream.phases)):
        run_phase(session, index)
        end_row(session)
    if session.plan.savings:
        _relearn(session)


def end_row(session: Session) -> None:
    """Measure a row of R, save if that is due or the row is the first or last, stop if asked."""
    session.task_step = 0
    session.check_numbers()
    measure_row(session)
    row, last = len(session.results.rows) - 1, len(session.stream.phases)
    # After the last row nothing is left to do: a signal comes too late, and the run is done.
    session.rest(saves=row in (0, last), stops=row < last or session.plan.savings)


def run_phase(session: Session, index: int) -> None:
    """Learn one phase (from 0), or its rest, between the calls that an announced task gets."""
    engine, recipe = session.engine, session.recipe
    phase = session.stream.phases[index]
    # Of a task that goes on, the strategy has its state back: it begins no task.
    if phase.announced and not session.task_step:
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
    clock, plan, start = session.clock, session.plan, session.task_step
    # `clock.step` counts through the whole stream, `progress.step` through this phase.
    before, reported = clock.step - start, start
    every = piece_length(plan, report_every=session.report_every)
    pieces: list[Progress] = []
    for progress in train(
        session.engine,
        phase,
        recipe=session.recipe,
        steps=phase.steps,
        report_every=every,
        start=start,
        workers=session.workers,
        rate=_rate(session, phase, before=before),
        skips=session.skips,
    ):
        clock.step = before + progress.step
        clock.tokens += progress.tokens
        clock.training += progress.seconds
        pieces.append(progress)
        is_report = progress.step % session.report_every == 0 or progress.step == phase.steps
        if is_report:
            session.publish(_trained(session, phase, index, joined_progress(pieces, since=reported)))
            pieces, reported = [], progress.step
        # The report comes first, so that a curve's point stands behind the steps that led to it.
        if is_due(plan, progress.step, of=phase.steps):
            _measure_inside(session, index, progress.step)
        # At rest: no gradient waits for its step, and no value for its report.
        if is_report and session.recipe.pace.is_due(progress.step - 1, of=phase.steps):
            session.rest(progress.step)


def _rate(session: Session, phase: Phase, *, before: int) -> Callable[[int], float] | None:
    recipe = session.recipe
    # A strategy that begins every task anew begins its schedule anew too.
    past = 0 if recipe.strategy.is_fresh else before
    return recipe.pace.rate(before=past, steps=phase.steps, of=session.stream.steps)


def _measure_inside(session: Session, index: int, task_step: int) -> None:
    probed = measure_inside(
        session.engine,
        session.stream,
        recipe=session.recipe,
        index=index,
        task_step=task_step,
        results=session.results,
        clock=session.clock,
    )
    session.publish(probed)


def _trained(session: Session, phase: Phase, index: int, done: Progress) -> Trained:
    return Trained(
        task=index + 1,
        task_name=phase.name,
        task_step=done.step,
        task_steps=phase.steps,
        tokens_per_second=done.tokens / done.seconds,
        # Losses are computed in nats and published in bits.
        loss=done.loss / math.log(2),
        lr=done.lr,
        terms=done.terms | done.watched,
        **session.clock.tick(),
    )


def measure_row(session: Session) -> None:
    """Add one row to R: the tasks that the plan says, and sometimes the base, in every mode."""
    engine, stream, recipe, results = session.engine, session.stream, session.recipe, session.results
    # Evaluations are timed apart, so that tokens per second are those of training alone.
    row, start = len(results.rows), time.perf_counter()
    columns = session.plan.columns(row, stream=stream)
    current = stream.phases[row - 1].task if row else None
    batches = [stream.tasks[j].evaluation() for j in columns]
    scores, profile = _score(session, batches, tasks=columns)
    base, known_scores = None, {}
    if session.plan.has_base(row, stream=stream):
        if stream.base is not None:
            base, _ = _score(session, [stream.base.evaluation()], tasks=[None])
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
            # `learned_at` holds the row after the first phase of each task.
            seen=[j for j, first in enumerate(stream.learned_at) if first <= row],
            tasks=scores,
            base=base,
            diagnostics=diagnostics,
            profile=profile,
            known_sets=known_scores,
            **session.clock.tick(),
        )
    )
    write_samples(session, row)


def _score(
    session: Session, batches: Sequence[Batch], *, tasks: Sequence[int | None]
) -> tuple[Scores, list[list[float]] | None]:
    """What a row holds of each batch, see `evaluate_along`."""
    return evaluate_along(
        session.engine,
        batches,
        recipe=session.recipe,
        tasks=tasks,
        token_bytes=session.stream.token_bytes,
        answers=session.stream.answers,
        exact=session.plan.exact,
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
