"""What a tracker costs a run whose server is in trouble, against the same run without a tracker.

refuse    nobody listens          broken    the server answers 500
hang      it never answers        slow      it answers after two seconds

Two kinds of figures for each: times and CPU time over those without a tracker, which a busy machine
blurs; and, direct, the seconds for which the run itself stands still: in calls of its tracker, and
between the end of the command and that of its process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from harness import FAST, SMALL, only_run
from wandb_server import Standin

from ttt.cli.run import main
from ttt.sinks.background import Background

LONG = ("task.num_tasks=4", *FAST, "base.steps=3", "base.warmup=1", "report=true")
# Steps of a task from which to learn how fast they are here, and how long a run shall take.
FEW, SECONDS = 200, 120
TROUBLE = ("refuse", "hang", "broken", "slow")
ALONE = ("none", "")
NOBODY = "http://127.0.0.1:9"
# What a run calls of its tracker; all else happens in another thread.
CALLS = ("start", "finish")
# A tracker may cost such a share of a run.
ALLOWED = 0.05


def run_watched() -> None:
    """Be `ttt-run`, and write to waits.json how long its main thread stood still for a tracker."""
    waits: dict[str, float] = {}
    with mock.patch.multiple(Background, **{name: _timed(name, waits) for name in CALLS}):
        try:
            main()
        finally:
            used = os.times()
            content = waits | {"ended": time.time(), "cpu": used.user + used.system}
            Path("waits.json").write_text(json.dumps(content))


def _timed(name: str, waits: dict[str, float]) -> Any:
    method = getattr(Background, name)

    def call(self: Background, *args: Any, **rest: Any) -> Any:
        began = time.monotonic()
        try:
            return method(self, *args, **rest)
        finally:
            waits[name] = waits.get(name, 0.0) + time.monotonic() - began

    return call


@contextmanager
def tracker(logger: str, trouble: str) -> Iterator[tuple[list[str], Mapping[str, str]]]:
    """The words that choose a tracker with a server in such trouble, and the environment for it."""
    with Standin(trouble if trouble in ("hang", "broken", "slow") else "ok") as server:
        url = NOBODY if trouble == "refuse" else server.url
        online = {"wandb": "logger.mode=online", "mlflow": f"logger.uri={url}"}
        words = [f"logger={logger}", *([online[logger]] if logger in online else [])]
        yield words, {"WANDB_BASE_URL": url, "WANDB_API_KEY": "x" * 40}


def measured(folder: Path, logger: str, trouble: str, *, words: Sequence[str] = ()) -> dict[str, float]:
    """Run once with a tracker in trouble; return what that took, in seconds."""
    small = [word for word in SMALL if not word.startswith(("logger=", "report="))]
    folder.mkdir(parents=True)
    with tracker(logger, trouble) as (chosen, variables):
        began = time.time()
        # A process of its own: the end of a cold one is what a user waits for.
        watched = [sys.executable, "-c", "import tracker_costs; tracker_costs.run_watched()"]
        line = [*watched, *small, *LONG, *words, *chosen]
        environment = os.environ | {"PYTHONPATH": _path(), "PYTHONSAFEPATH": "1"} | variables
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        ended = time.time()
    assert done.returncode == 0, done.stderr
    waits = json.loads((folder / "waits.json").read_text())
    status = json.loads((only_run(folder) / "status.json").read_text())
    waiting = sum(waits.get(name, 0.0) for name in CALLS)
    took = {"command": ended - began, "run": status["seconds"], "cpu": waits["cpu"]}
    return took | {"waiting": waiting, "leaving": ended - waits["ended"]}


def _path() -> str:
    """Where Python finds this file, before all that it looked through."""
    return os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])


def compare_trackers(work: Path, *, rounds: int) -> list[str]:
    """Run without a tracker and with each in turn; return which cost more than ALLOWED."""
    few = measured(work / "few", "none", "", words=[f"task.steps_per_task={FEW}"])
    words = [f"task.steps_per_task={round(FEW * SECONDS / few['run'])}"]
    loggers = [name for name in ("wandb", "mlflow") if find_spec(name)]
    kinds = [ALONE, *((logger, trouble) for logger in loggers for trouble in TROUBLE)]
    took: dict[tuple[str, str], list[dict[str, float]]] = {kind: [] for kind in kinds}
    for turn in range(rounds):
        for kind in kinds:
            took[kind].append(measured(work / f"{turn}-{'-'.join(kind)}", *kind, words=words))
            print(_line(kind, took[kind][-1:], took[ALONE][-1:]), file=sys.stderr, flush=True)
    for kind in kinds:
        print(_line(kind, took[kind], took[ALONE]), flush=True)
    alone = _mean(took[ALONE], "command")
    stood = {kind: _mean(took[kind], "waiting") + _mean(took[kind], "leaving") for kind in kinds}
    extra = {kind: seconds - stood[ALONE] for kind, seconds in stood.items()}
    return [f"{' '.join(kind)} costs {x:.1f} s of {alone:.0f}" for kind, x in extra.items() if x > ALLOWED * alone]


def _mean(runs: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(run[name] for run in runs) / len(runs)


def _line(kind: tuple[str, str], runs: Sequence[Mapping[str, float]], alone: Sequence[Mapping[str, float]]) -> str:
    names = ("command", "run", "cpu")
    ratios = [f"{name} {_mean(runs, name):.1f} s (x {_mean(runs, name) / _mean(alone, name):.3f})" for name in names]
    stood = f"waits {_mean(runs, 'waiting'):.1f} s, leaves in {_mean(runs, 'leaving'):.1f} s"
    return f"{' '.join(kind):<14} {', '.join(ratios)}; {stood}"
