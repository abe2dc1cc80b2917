"""What happens between an open run folder and an exit code: base, stream, results, sinks."""

from __future__ import annotations

import signal
import traceback
from contextlib import closing
from types import FrameType

from omegaconf import OmegaConf
from ttt.cli.check import UsageError
from ttt.cli.screen import Screen

from ttt import checkpoint
from ttt.assemble import Assembly
from ttt.config import code_hash
from ttt.environment import environment, peak_memory_bytes
from ttt.files import write_bytes, write_json
from ttt.journal import Journal
from ttt.loop import Clock, restore, run_stream
from ttt.results import Results
from ttt.runfolder import RunFolder
from ttt.sinks.base import Guarded, first_line
from ttt.train import Engine, NonFiniteError

BUG, NON_FINITE, INTERRUPTED, TERMINATED = 70, 76, 130, 143


class TerminatedError(BaseException):
    """SIGTERM: stop now; what the last checkpoint holds is safe."""


def execute(assembly: Assembly, folder: RunFolder, screen: Screen) -> int:
    """Run to the end, or say in status.json why not. Raises UsageError for a base that does not fit."""
    signal.signal(signal.SIGTERM, _terminate)
    sink = Guarded(assembly.sink)
    results = Results.of(assembly.stream)
    code, status, reason = 0, "done", ""
    try:
        clock = _run(assembly, folder, screen, sink, results)
        numbers = costs(clock, assembly)
    except ValueError as error:
        if folder.metrics.exists():
            code, status, reason = _bug(folder, error)
        else:
            # Refused before anything was measured: nothing stays behind.
            folder.discard()
            raise UsageError(str(error)) from error
    except NonFiniteError as error:
        code, status, reason = NON_FINITE, "failed", str(error)
    except KeyboardInterrupt:
        code, status, reason = INTERRUPTED, "requeue", "interrupted"
    except TerminatedError:
        code, status, reason = TERMINATED, "requeue", "terminated"
    except Exception as error:
        code, status, reason = _bug(folder, error)
    folder.set_status(status, reason=reason, numbers=numbers if code == 0 else None)
    where = sink.finish(results, exit_code=code)
    folder.close()
    if code == 0:
        screen.results(results, folder, where)
    else:
        screen.stopped(reason, folder, resumable=status == "requeue")
    return code


def costs(clock: Clock, assembly: Assembly) -> dict[str, float]:
    """What the run took; the fast state is counted for one lane, in numbers."""
    state = assembly.learner.adapter.initial()
    return {
        "seconds": clock.seconds,
        "tokens": clock.tokens,
        "training_tokens_per_second": clock.tokens / max(clock.training, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(),
        "fast_state_numbers": sum(x.numel() for x in state.values()),
    }


def _run(assembly: Assembly, folder: RunFolder, screen: Screen, sink: Guarded, results: Results) -> Clock:
    fabric = assembly.settings.fabric()
    screen.announce(assembly, folder, fabric.device)
    with screen.live(assembly):
        weights = assembly.base_weights(fabric, screen)
        if weights is not None:
            assembly.load(weights)
        engine = Engine.build(fabric, assembly.learner, assembly.learner.configure_optimizers())
        saved, complaints = checkpoint.load_newest(folder.checkpoints)
        for complaint in complaints:
            screen.note(f"passed over a damaged checkpoint: {complaint}")
        clock = restore(engine, saved, results=results) if saved else Clock()
        _record(assembly, folder, engine, resumed=saved is not None, screen=screen)
        sink.start(assembly.info)
        if saved:
            screen.note(f"resuming after task {len(results.rows) - 1}")
        position = saved.state["journal_position"] if saved else 0
        with closing(Journal(folder.metrics, position=position)) as journal:
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
            )
    # Results are on the disk before anything is shown.
    write_json(folder.results, results.as_json())
    return clock


def _record(assembly: Assembly, folder: RunFolder, engine: Engine, *, resumed: bool, screen: Screen) -> None:
    """config.yaml and environment.json; says so when a resumed run began with other code."""
    stream, source = assembly.stream, assembly.source
    data = {
        "source": source.fingerprint,
        "rows": source.rows,
        "base": stream.base.fingerprint if stream.base else None,
        "tasks": [task.fingerprint for task in stream.tasks],
    }
    content = environment(code=code_hash(), data=data, device=engine.fabric.device)
    file = folder.path / "environment.json"
    if resumed and folder.recorded_code() not in (None, content["code"]):
        screen.note("this run began with other code: its rows are not all measured alike")
    write_bytes(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(assembly.config)).encode())
    write_json(file, content)


def _bug(folder: RunFolder, error: Exception) -> tuple[int, str, str]:
    write_bytes(folder.path / "error.log", "".join(traceback.format_exception(error)).encode())
    return BUG, "failed", f"{type(error).__name__}: {first_line(error)} (see error.log)"


def _terminate(number: int, frame: FrameType | None) -> None:
    raise TerminatedError
