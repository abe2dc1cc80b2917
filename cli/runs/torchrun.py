"""One run on several devices of this host: torchrun starts a process for each and ends all when one
fails."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ttt.cli.console import say_error
from ttt.run.exit_codes import ExitCode
from ttt.storage.run_folder import RunFolder


def run_on_devices(
    config: dict[str, Any],
    *,
    trusted: Sequence[Path],
    processes: int,
    folder: RunFolder,
    references: Mapping[str, Path] | None = None,
) -> int:
    """Run `config` on this many devices; return the exit code of the run."""
    with TemporaryDirectory(prefix="ttt-") as work:
        order = write_order(Path(work), config, trusted=trusted, references=references or {}, rank=True)
        return _elastic(["-m", "ttt.cli.worker", str(order)], processes=processes, work=work, folder=folder)


def write_order(
    folder: Path, config: dict[str, Any], *, trusted: Sequence[Path], references: Mapping[str, Path], rank: bool
) -> Path:
    """Write what `ttt.cli.worker` reads; return the file."""
    order = folder / "run.json"
    content = {
        "config": config,
        "trusted": [str(path) for path in trusted],
        "typed": sys.argv,
        "references": {name: str(path) for name, path in references.items()},
        "rank": rank,
    }
    order.write_text(json.dumps(content))
    return order


def _elastic(arguments: Sequence[str], *, processes: int, work: str, folder: RunFolder) -> int:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # We say in one line what torch says in warnings and tables of tracebacks.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # What `torchrun --standalone` would do.
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=work),
    )
    # Without this one, what SLURM sends before a time limit would end this process alone.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
    try:
        elastic_launch(launch, sys.executable)(*arguments)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except SignalException as stop:
        # torchrun has passed the signal on, and waited for the processes to save.
        is_saved = folder.status().get("status") == "requeue" and stop.sigval != signal.SIGINT
        return ExitCode.REQUEUE if is_saved else 128 + int(stop.sigval)
    except ChildFailedError as failed:
        return exit_code_of({rank: failure.exitcode for rank, failure in failed.failures.items()}, folder)
    return 0


def exit_code_of(codes: dict[int, int], folder: RunFolder) -> int:
    """One exit code for all processes, from the exit code of each rank that failed.

    A process that only lost the others, or was told to stop with them, is not the cause.
    """
    victims = (ExitCode.REQUEUE, ExitCode.TERMINATED, -signal.SIGTERM)
    causes = {rank: code for rank, code in codes.items() if code not in victims} or codes
    rank = min(causes)
    # A negative code is the number of the signal that killed the process.
    code = causes[rank]
    if code not in (ExitCode.FAILED, ExitCode.BUG) and code > 0:
        return code
    # The first process could not know why the others left, or had no time to write it down.
    if code < 0:
        status, reason = "requeue", f"process {rank} was killed by signal {-code} ({signal.strsignal(-code)})"
    else:
        status, reason = "failed", f"process {rank} failed (see {folder.error_log(rank).name})"
    if folder.status().get("status") in ("running", "requeue"):
        folder.set_status(status, reason=reason)
        folder.close()
        say_error(f"ttt-run: {reason}; files {folder.path}")
    return ExitCode.BUG
