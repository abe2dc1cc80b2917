"""The stream loop: learn a task, evaluate tasks in every mode, save; on to the next."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttt import anytime, checkpoint
from ttt.checkpoint import Checkpoint, Tensors
from ttt.diagnose import Diagnosis
from ttt.engine import Engine
from ttt.evaluate import Plan, evaluate, evaluate_along
from ttt.events import Evaluated, Event, Observer, Relearned, Trained
from ttt.journal import Journal, plain
from ttt.pace import Pace
from ttt.ranks import deal
from ttt.results import Results
from ttt.rows import compact, points_from_json, rows_from_json
from ttt.savings import relearn
from ttt.shards import gather, placed
from ttt.stream import Stream
from ttt.train import Progress, train

KEPT_CHECKPOINTS = 2
CLOCK = ("step", "tokens", "seconds", "training", "evaluation", "between")


@dataclass
class Clock:
    """Where the stream is: batches, tokens read in training, seconds of wall time; of these in training, in
    evaluation, and in what the strategy does between tasks."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0
    between: float = 0.0
    _since: float = field(default_factory=time.perf_counter, repr=False)

    def tick(self) -> dict[str, Any]:
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        return {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}


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
    rate = rate_of(engine.pace, before=before, steps=phase.steps, of=stream.steps)
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
                terms=done.terms,
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


def rate_of(pace: Pace, *, before: int, steps: int, of: int) -> Callable[[int], float] | None:
    """The share of the learning rate at each step of a phase that begins after `before` of all `of` steps.

    None: all of it, always.
    """
    if pace.is_constant:
        return None
    if pace.over == "task":
        return lambda step: pace.factor(step, of=steps)
    return lambda step: pace.factor(before + step, of=of)


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


def save(engine: Engine, *, results: Results, clock: Clock, journal: Journal | None, folder: Path) -> None:
    """Everything that must be the same for the run to go on as if it had never stopped, whatever the devices.

    All processes give their shares, the first one writes.
    """
    learner = engine.learner
    tensors: dict[str, Tensors] = {
        "slow": dict(learner.model.named_parameters()),
        "fast": engine.whole_fast(),
        "optimizer": checkpoint.optimizer_tensors(engine.optimizer, engine.order),
        "strategy": learner.strategy.state(),
        "objective": learner.objective.state(),
        "rng": checkpoint.rng_tensors(),
    }
    tensors = {group: gather(content, keep=journal is not None) for group, content in tensors.items()}
    if journal is None:
        return
    state = {
        "rows": plain(results.rows),
        "points": plain(compact(results.points)),
        "clock": {name: getattr(clock, name) for name in CLOCK},
        "journal_position": journal.position,
    }
    checkpoint.save(folder / f"task-{len(results.rows) - 1:04d}", Checkpoint(tensors, state))
    for old in sorted(folder.glob("task-*"))[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)


def restore(engine: Engine, saved: Checkpoint, *, results: Results) -> Clock:
    """The inverse of `save`; the devices may be others."""
    learner, fabric = engine.learner, engine.fabric
    own = dict(learner.model.named_parameters())
    slow = {name: placed(x, like=own[name]) if name in own else x for name, x in saved.tensors["slow"].items()}
    learner.model.load_state_dict(slow)
    fast = {name: x.to(fabric.device) for name, x in saved.tensors["fast"].items()}
    learner.fast = fast if engine.merges else deal(fast, fabric.global_rank, of=fabric.world_size)
    checkpoint.restore_optimizer(engine.optimizer, saved.tensors["optimizer"], engine.order)
    learner.strategy.restore(saved.tensors["strategy"])
    learner.objective.restore(saved.tensors["objective"])
    checkpoint.restore_rng(saved.tensors["rng"])
    results.rows, results.points = rows_from_json(saved.state["rows"]), points_from_json(saved.state["points"])
    return Clock(**saved.state["clock"])
