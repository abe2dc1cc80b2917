"""What happens between an open run folder and an exit code: base, stream, results, sinks."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from omegaconf import OmegaConf

from ttt.cli.runs.check import UsageError
from ttt.cli.runs.references import measured
from ttt.cli.runs.screen import Screen
from ttt.devices.collective import decided
from ttt.devices.one_device import Devices
from ttt.evaluation.diagnose import Diagnosis
from ttt.learner import Engine
from ttt.results.results import Results
from ttt.run.assemble import Assembly
from ttt.run.loop import run_stream
from ttt.run.resume import restore
from ttt.sinks.base import Guarded, first_line
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint
from ttt.storage.environment import environment, peak_memory_bytes
from ttt.storage.files import write_bytes, write_json
from ttt.storage.journal import Journal
from ttt.storage.run_folder import RunFolder
from ttt.stream import samples
from ttt.training.clock import Clock
from ttt.training.train import NonFiniteError

BUG, LOST, NON_FINITE, INTERRUPTED, TERMINATED = 70, 75, 76, 130, 143
# Seconds until a process whose others are gone is told why.
SIGNAL_WITHIN = 10


class TerminatedError(BaseException):
    """SIGTERM: stop now; what the last checkpoint holds is safe."""


class Outcome(NamedTuple):
    """How a run ended: exit code, what status.json says and why, and what it took."""

    code: int
    status: str
    reason: str
    numbers: dict[str, float]


class LostError(RuntimeError):
    """Another process of this run ended first; why is for that one to say."""


def execute(
    assembly: Assembly, fabric: Devices, folder: RunFolder, screen: Screen, references: Mapping[str, Path]
) -> int:
    """Run to the end, or say in status.json why not. Raises UsageError for a base that does not fit.

    Of several processes all compute, and the first alone writes.
    """
    signal.signal(signal.SIGTERM, _terminate)
    sink = Guarded(assembly.sink)
    results = Results.of(assembly.stream)
    if references:
        results.references = measured(assembly, fabric, references)
    code, status, reason = 0, "done", ""
    numbers: dict[str, float] = {}
    try:
        with _with_others(fabric):
            clock = _run(assembly, fabric, folder, screen, sink, results)
        numbers = costs(clock, assembly)
    except ValueError as error:
        if not (results.rows or folder.metrics.exists()):
            # Refused before anything was measured: nothing stays behind.
            if fabric.is_global_zero:
                folder.discard()
            raise UsageError(str(error)) from error
        code, status, reason = _bug(folder, error, rank=fabric.global_rank)
    except NonFiniteError as error:
        code, status, reason = NON_FINITE, "failed", str(error)
    except KeyboardInterrupt:
        code, status, reason = INTERRUPTED, "requeue", "interrupted"
    except TerminatedError:
        code, status, reason = TERMINATED, "requeue", "terminated"
    except LostError as error:
        code, status, reason = LOST, "requeue", str(error)
    except Exception as error:
        code, status, reason = _bug(folder, error, rank=fabric.global_rank)
    if fabric.is_global_zero:
        _conclude(assembly, folder, screen, sink, results, Outcome(code, status, reason, numbers))
    return code


def _conclude(
    assembly: Assembly, folder: RunFolder, screen: Screen, sink: Guarded, results: Results, outcome: Outcome
) -> None:
    """Status, page, sinks and screen, in this order: first what must not be lost."""
    code, status, reason, numbers = outcome
    folder.set_status(status, reason=reason, numbers=numbers)
    # Whoever is told to stop has no time for pictures.
    if assembly.config["report"] and status != "requeue":
        _report(folder, screen)
    where = sink.finish(results, numbers=numbers, exit_code=code)
    folder.close()
    if code == 0:
        screen.results(results, folder, where)
    else:
        screen.stopped(reason, folder, resumable=status == "requeue")


def costs(clock: Clock, assembly: Assembly) -> dict[str, float]:
    """What the run took; the fast state is counted for one lane, in numbers."""
    state = assembly.learner.adapter.initial()
    return {
        "seconds": clock.seconds,
        "tokens": clock.tokens,
        "evaluation_seconds": clock.evaluation,
        "strategy_seconds_between_tasks": clock.between,
        "strategy_memory_bytes": sum(x.numel() * x.element_size() for x in assembly.learner.strategy.state().values()),
        "training_tokens_per_second": clock.tokens / max(clock.training, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(),
        "fast_state_numbers": sum(x.numel() for x in state.values()),
    }


@contextmanager
def _with_others(fabric: Devices) -> Iterator[None]:
    """Where one process ends, the others see a broken connection; what they are told a moment later says more."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if fabric.world_size == 1 or not broken:
            raise
        # Who started them sends a signal as soon as it notices, which ends this.
        time.sleep(SIGNAL_WITHIN)
        raise LostError("another process of this run ended") from error


def _run(
    assembly: Assembly, fabric: Devices, folder: RunFolder, screen: Screen, sink: Guarded, results: Results
) -> Clock:
    screen.announce(assembly, folder, fabric.device)
    with screen.live(assembly):
        engine = assembly.engine(fabric, assembly.base_weights(fabric, screen))
        # The base itself is what drift is measured from, not what a checkpoint holds.
        diagnosis = Diagnosis.at_base(engine, assembly.stream) if assembly.plan.diagnostics else None
        saved = _newest(fabric, folder, screen)
        clock = restore(engine, saved, results=results) if saved else Clock()
        if fabric.is_global_zero:
            _record(assembly, folder, engine, resumed=saved is not None, screen=screen)
        if saved:
            screen.note(f"resuming after task {len(results.rows) - 1}")
        position = saved.state["journal_position"] if saved else 0
        with _journal(fabric, folder, position=position) as journal:
            # The journal is cut to the checkpoint by now: from it a sink hears of what lies behind.
            if journal is not None:
                sink.start(assembly.info, journal=folder.metrics)
            run_stream(
                engine,
                assembly.stream,
                plan=assembly.plan,
                results=results,
                clock=clock,
                journal=journal,
                observers=[sink, screen],
                folder=folder.checkpoints,
                report_every=assembly.settings.report_every,
                workers=assembly.settings.workers,
                diagnosis=diagnosis,
            )
    # Results are on the disk before anything is shown.
    if fabric.is_global_zero:
        write_json(folder.results, results.as_json())
    return clock


def _newest(fabric: Devices, folder: RunFolder, screen: Screen) -> Checkpoint | None:
    """The newest valid checkpoint: the first process looks for it, all read it."""
    own: list[Checkpoint | None] = [None]

    def find() -> str | None:
        own[0], complaints = checkpoint.load_newest(folder.checkpoints)
        for complaint in complaints:
            screen.note(f"passed over a damaged checkpoint: {complaint}")
        return f"task-{len(own[0].state['rows']) - 1:04d}" if own[0] else None

    name = decided(fabric, find)
    return checkpoint.load(folder.checkpoints / name) if name and own[0] is None else own[0]


def _journal(fabric: Devices, folder: RunFolder, *, position: int) -> AbstractContextManager[Journal | None]:
    return closing(Journal(folder.metrics, position=position)) if fabric.is_global_zero else nullcontext()


def _record(assembly: Assembly, folder: RunFolder, engine: Engine, *, resumed: bool, screen: Screen) -> None:
    """config.yaml, environment.json, samples.json; says so when a resumed run began with other code."""
    stream, source = assembly.stream, assembly.source
    data = {
        "source": source.fingerprint,
        "rows": source.rows,
        "base": stream.base.fingerprint if stream.base else None,
        "tasks": [task.fingerprint for task in stream.tasks],
    }
    content = environment(code=assembly.code, data=data, device=engine.fabric.device)
    file = folder.path / "environment.json"
    if resumed and folder.recorded_code() not in (None, content["code"]):
        screen.note("this run began with other code: its rows are not all measured alike")
    write_bytes(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(assembly.config)).encode())
    write_json(file, content)
    write_json(folder.path / "samples.json", samples(stream))


def _bug(folder: RunFolder, error: Exception, *, rank: int) -> tuple[int, str, str]:
    name = f"error-process{rank}.log" if rank else "error.log"
    write_bytes(folder.path / name, "".join(traceback.format_exception(error)).encode())
    return BUG, "failed", f"{type(error).__name__}: {first_line(error)} (see {name})"


def _report(folder: RunFolder, screen: Screen) -> None:
    """The run's page; a picture that fails costs no result."""
    # Imported here: matplotlib takes its time.
    from ttt.report.one import write_run

    try:
        write_run(folder.path)
    except Exception as error:
        screen.note(f"no report: {type(error).__name__}: {first_line(error)}")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise TerminatedError
