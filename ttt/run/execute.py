"""A run's life between an open folder and an outcome: base, stream, results, sinks.

It prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

import torch

from ttt.config.messages import UsageError
from ttt.devices.collective import decided
from ttt.devices.one_device import Devices
from ttt.evaluation.diagnose import Diagnosis
from ttt.optimizers.eager import uncompiled
from ttt.results.results import Results
from ttt.run.assemble import Assembly
from ttt.run.endings import LostError, Outcome, ending
from ttt.run.exit_codes import ExitCode
from ttt.run.loop import run_stream
from ttt.run.record import causal_line, record_run, write_page
from ttt.run.references import measured
from ttt.run.resume import check_room, check_saved, restore_run
from ttt.run.session import Session
from ttt.run.signals import deferred, pending
from ttt.run.watcher import Watcher
from ttt.sinks.background import Background
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint
from ttt.storage.environment import peak_memory_bytes
from ttt.storage.files import remove_unfinished
from ttt.storage.journal import Journal, mend
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import write_results
from ttt.training.clock import Clock
from ttt.training.saving import Saving

# Seconds until a process whose others are gone is told why.
SIGNAL_WITHIN = 10


def execute(
    assembly: Assembly, fabric: Devices, folder: RunFolder, watcher: Watcher, references: Mapping[str, Path]
) -> tuple[Outcome, Results]:
    """Run to the end, or say in status.json why not.

    Raises UsageError for a base that does not fit.

    Of several processes all compute, and the first alone writes.
    """
    sink = Background(assembly.sink, journal=folder.metrics)
    results = Results.of(assembly.stream)
    outcome = _outcome(assembly, fabric, folder, watcher, sink, results, references=references)
    if fabric.is_global_zero:
        outcome = _conclude(assembly, folder, watcher, sink, results, outcome)
    return outcome, results


def _outcome(
    assembly: Assembly,
    fabric: Devices,
    folder: RunFolder,
    watcher: Watcher,
    sink: Background,
    results: Results,
    *,
    references: Mapping[str, Path],
) -> Outcome:
    """Run, and turn every way in which that can end into an outcome."""
    try:
        with _with_others(fabric):
            if references:
                results.references = measured(assembly, fabric, references)
            clock = _run(assembly, fabric, folder, watcher, sink, results)
        return Outcome(ExitCode.DONE, "done", "", costs(clock, assembly))
    except ValueError as error:
        if not (results.rows or folder.metrics.exists()):
            # Refused before anything was measured: nothing stays behind.
            if fabric.is_global_zero:
                # An empty folder would look like a run that has begun.
                folder.discard()
            raise UsageError(str(error)) from error
        return ending(error, folder, rank=fabric.global_rank)
    # Signals and Ctrl-C among them.
    except BaseException as error:
        return ending(error, folder, rank=fabric.global_rank)


def _conclude(
    assembly: Assembly, folder: RunFolder, watcher: Watcher, sink: Background, results: Results, outcome: Outcome
) -> Outcome:
    """Write status, page and sinks, in this order: first what must not be lost."""
    try:
        folder.set_status(outcome.status, reason=outcome.reason, numbers=outcome.numbers)
    except OSError as error:
        # No run is done of which nobody can read that.
        outcome = ending(error, folder, rank=0)
    # A process that is told to stop has no time for pictures.
    if assembly.config["report"] and outcome.status != "requeue":
        write_page(folder, watcher)
    # The tracker comes last: it may wait for a network, and everything else is on the disk by then.
    where = sink.finish(results, numbers=outcome.numbers, exit_code=outcome.code)
    folder.close()
    return outcome._replace(where=where)


def costs(clock: Clock, assembly: Assembly) -> dict[str, float]:
    """What the run took; the fast state is counted for one lane, in numbers."""
    state = assembly.learner.adapter.initial()
    memory = assembly.recipe.strategy.state().values()
    return {
        "seconds": clock.seconds,
        "tokens": clock.tokens,
        "evaluation_seconds": clock.evaluation,
        "strategy_seconds_between_tasks": clock.between,
        "strategy_memory_bytes": sum(x.numel() * x.element_size() for x in memory),
        "training_tokens_per_second": clock.tokens / max(clock.training, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(),
        "fast_state_numbers": sum(x.numel() for x in state.values()),
        **assembly.recipe.objective.terms(),
    }


@contextmanager
def _with_others(fabric: Devices) -> Iterator[None]:
    """Where another process ended, wait for the signal that says more than a broken connection."""
    try:
        yield
    except RuntimeError as error:
        # Errors of gloo itself are plain RuntimeErrors, which only their text tells apart.
        broken = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if fabric.world_size == 1 or not broken:
            raise
        # Whoever started the processes sends a signal as soon as it notices, which ends this.
        if pending() is None:
            time.sleep(SIGNAL_WITHIN)
        raise LostError("another process of this run ended") from error


def _run(
    assembly: Assembly, fabric: Devices, folder: RunFolder, watcher: Watcher, sink: Background, results: Results
) -> Clock:
    watcher.announce(assembly, folder, fabric.device)
    for fault in folder.damaged:
        watcher.note(f"damaged, and written anew: {fault}")
    # The first process speaks for all.
    causal = causal_line(assembly, fabric) if fabric.is_global_zero else ""
    watcher.note(f"causal   {causal}")
    with watcher.live(assembly):
        session, position = _begin(assembly, fabric, folder, watcher, results, causal=causal)
        with _journal(fabric, folder, watcher, position=position) as journal:
            # The journal is now cut to the checkpoint: it tells a sink what was measured before.
            if journal is not None:
                sink.start(assembly.info)
            session.journal, session.observers = journal, [watcher]
            with session.saving.deferred():
                run_stream(session)
    # Results are on the disk before anything is shown.
    if fabric.is_global_zero:
        write_results(folder.results, results)
    return session.clock


def _begin(
    assembly: Assembly, fabric: Devices, folder: RunFolder, watcher: Watcher, results: Results, *, causal: str
) -> tuple[Session, int]:
    """The base, or where an earlier process stopped; and how much of its journal counts."""
    recipe = assembly.recipe
    settings = assembly.settings
    when = settings.save_every, settings.save_minutes, settings.save_task_seconds
    saving = Saving(*when, stop=pending, deferred=deferred, sharded=settings.shards_checkpoints)
    # The base is needed also where a checkpoint replaces
    # its weights: strategies and probes refer to it.
    engine = assembly.engine(fabric, assembly.base_weights(fabric, watcher, saving))
    # Drift is measured from the base itself, not from what a checkpoint holds: probe it first.
    is_probed = assembly.plan.diagnostics
    texts = assembly.known_sets.texts
    diagnosis = Diagnosis.at_base(engine, assembly.stream, strategy=recipe.strategy, texts=texts) if is_probed else None
    # A full disk is noticed now, not after the first task.
    check_room(engine, folder.checkpoints)
    saved = _newest(fabric, folder, watcher)
    with uncompiled():
        clock = restore_run(engine, recipe, saved, results=results) if saved else Clock()
    task_step = saved.state.get("task_step", 0) if saved else 0
    if fabric.is_global_zero:
        record_run(assembly, folder, engine, causal=causal, resumed=saved is not None, watcher=watcher)
    if saved:
        after = f"step {task_step} of task {len(results.rows)}" if task_step else f"task {len(results.rows) - 1}"
        watcher.note(f"resuming after {after}")
    session = Session(
        engine=engine,
        stream=assembly.stream,
        recipe=recipe,
        plan=assembly.plan,
        known_sets=assembly.known_sets,
        results=results,
        clock=clock,
        checkpoints=folder.checkpoints,
        diagnosis=diagnosis,
        report_every=settings.report_every,
        workers=settings.workers,
        task_step=task_step,
        skips=settings.skips,
        saving=saving,
        note=watcher.note,
    )
    return session, saved.state["journal_position"] if saved else 0


def _newest(fabric: Devices, folder: RunFolder, watcher: Watcher) -> Checkpoint | None:
    """The newest valid checkpoint: the first process looks for it, and all read it."""
    newest: list[Checkpoint | None] = [None]

    def find() -> str | None:
        for place in (folder.path, folder.checkpoints):
            remove_unfinished(place)
        newest[0], complaints = checkpoint.load_newest(folder.checkpoints, check=check_saved)
        for complaint in complaints:
            watcher.note(f"passed over a damaged checkpoint: {complaint}")
        if newest[0] is None:
            return None
        state = newest[0].state
        return checkpoint.name_after(len(state["rows"]) - 1, step=state.get("task_step", 0))

    # All processes must go on from one checkpoint, also where a disk shows them different ones.
    name = decided(fabric, find)
    return checkpoint.load(folder.checkpoints / name) if name and newest[0] is None else newest[0]


def _journal(
    fabric: Devices, folder: RunFolder, watcher: Watcher, *, position: int
) -> AbstractContextManager[Journal | None]:
    if not fabric.is_global_zero:
        return nullcontext()
    # What was measured after the checkpoint is measured again and must not stand there twice.
    end, fault = mend(folder.metrics, position=position)
    if fault:
        watcher.note(f"{fault}; the results are whole without it")
    return closing(Journal(folder.metrics, position=end))
