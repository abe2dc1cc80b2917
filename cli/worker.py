"""A process that another process of ttt starts: one rank of a run on several devices, or a
reference run.

    python -m ttt.cli.worker ORDER.json

The command was checked and composed once, by the process that starts this one; ORDER.json holds the
result:

    {"config": {...}, "trusted": ["/home/me/mine"], "typed": ["ttt-run", "trainer=ddp", ...],
     "references": {"joint": "outputs/...", ...}, "rank": true}

`rank`: this is one process of several. Nothing imports this module.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ttt.cli.announce import VARIABLE
from ttt.cli.process import in_own_process, leave
from ttt.cli.run import complain, interrupted, run_one
from ttt.config.messages import UsageError

# Seconds that a process has to write what it must when it is told to stop.
GRACE = 30
LOOK_EVERY = 1.0


@in_own_process
def main() -> None:
    """Do what the order says, and end with its exit code."""
    leave(work(json.loads(Path(sys.argv[1]).read_text())))


def work(order: dict[str, Any]) -> int:
    """Run what the order names; return the exit code."""
    # A sweep hears from the process that it started, not from those that this one started.
    os.environ.pop(VARIABLE, None)
    if order["rank"]:
        # A shell starts what it puts into the background with Ctrl-C ignored, and children inherit
        # that; torchrun passes Ctrl-C on to its processes.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_watch_starter, args=(os.getppid(),), daemon=True).start()
    trusted = [Path(path) for path in order["trusted"]]
    sys.path.extend(str(path) for path in trusted)
    sys.argv = order["typed"]
    references = {name: Path(path) for name, path in order["references"].items()}
    try:
        return run_one(order["config"], trusted=trusted, references=references if order["rank"] else None)
    except UsageError as error:
        return complain(error)
    except KeyboardInterrupt:
        return interrupted()


def _watch_starter(starter: int) -> None:
    """End this process when the one that started it is gone, however that ended."""
    # POSIX gives a process whose parent is gone to another one.
    while os.getppid() == starter:
        time.sleep(LOOK_EVERY)
    # It gets the signal that a scheduler would send, so that the run saves before it ends.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
