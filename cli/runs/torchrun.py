"""One run on several devices of this host: torchrun starts a process for each and ends all when one fails.

The command was checked and composed once, here; the processes read what came of it from a file:

    {"config": {...}, "trusted": ["/home/me/mine"], "typed": ["ttt-run", "trainer=ddp", "trainer.devices=2"],
     "references": {"joint": "outputs/...", ...}}
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ttt.storage.run_folder import RunFolder

FAILED, INTERRUPTED, LOST = 70, 130, 75
# Seconds that processes have to write what they must when they are told to stop.
GRACE = 30
LOOK_EVERY = 1.0


def start(
    config: dict[str, Any],
    *,
    trusted: Sequence[Path],
    processes: int,
    folder: RunFolder,
    references: Mapping[str, Path] | None = None,
) -> int:
    """Run `config` on `processes` devices; the exit code of the run."""
    with TemporaryDirectory(prefix="ttt-") as work:
        order = Path(work) / "run.json"
        content = {"config": config, "trusted": [str(path) for path in trusted], "typed": sys.argv}
        content["references"] = {name: str(path) for name, path in (references or {}).items()}
        order.write_text(json.dumps(content))
        return _elastic(["-m", "ttt.cli.runs.torchrun", str(order)], processes=processes, work=work, folder=folder)


def _elastic(arguments: Sequence[str], *, processes: int, work: str, folder: RunFolder) -> int:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Its warnings and tables of tracebacks say what we say in a line.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # torchrun --standalone
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
    try:
        elastic_launch(launch, sys.executable)(*arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except ChildFailedError as failed:
        return verdict({rank: failure.exitcode for rank, failure in failed.failures.items()}, folder)
    return 0


def verdict(codes: dict[int, int], folder: RunFolder) -> int:
    """One exit code for all. A process that only lost the others, or was told to stop with them, is no cause."""
    causes = {rank: code for rank, code in codes.items() if code not in (LOST, 143, -signal.SIGTERM)} or codes
    rank = min(causes)
    code = causes[rank]
    if code not in (1, FAILED) and code > 0:
        return code
    # The first process could not know why the others left, or had no time to say so.
    if code < 0:
        status, reason = "requeue", f"process {rank} was killed by signal {-code} ({signal.strsignal(-code)})"
    else:
        status, reason = "failed", f"process {rank} failed (see error-process{rank}.log)"
    if folder.status().get("status") in ("running", "requeue"):
        folder.set_status(status, reason=reason)
        folder.close()
        print(f"ttt-run: {reason}; files {folder.path}", file=sys.stderr)
    return FAILED


def _watch_starter(starter: int) -> None:
    """No process outlives who started it, however that ended."""
    while os.getppid() == starter:
        time.sleep(LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: Collection[str]) -> None:
    """One of the processes."""
    from ttt.cli.run import complain, run_one
    from ttt.cli.runs.check import UsageError

    # What a shell starts in the background has Ctrl-C ignored, and children inherit that; torchrun passes it on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_watch_starter, args=(os.getppid(),), daemon=True).start()
    (file,) = arguments
    content = json.loads(Path(file).read_text())
    trusted = [Path(path) for path in content["trusted"]]
    sys.path.extend(str(path) for path in trusted)
    sys.argv = content["typed"]
    try:
        references = {name: Path(path) for name, path in content["references"].items()}
        sys.exit(run_one(content["config"], trusted=trusted, references=references))
    except UsageError as error:
        sys.exit(complain(error))


if __name__ == "__main__":
    main(sys.argv[1:])
