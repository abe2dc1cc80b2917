"""A stream of many tiny tasks: what a run holds and what a task costs must not grow with them."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness import only_run

TASKS = 500
# How much more the last fifth of the tasks may take than the second fifth.
MORE_MEMORY, MORE_TIME, MORE_FILES = 1.05, 1.25, 1.0
SIZES = (f"task.num_tasks={TASKS}", f"task.held_out={TASKS}", f"eval.every={TASKS}", "eval.diagnostics=false")
# Seconds between two looks at the process.
PAUSE = 0.2


class Look(NamedTuple):
    """What a running process holds after so many tasks, `at` so many seconds of CPU time."""

    task: int
    at: float
    memory: int
    files: int


def soak(start: Callable[[Path], subprocess.Popen[bytes]], folder: Path) -> list[str]:
    """Watch one run to its end; return what grew."""
    process = start(folder)
    looks: list[Look] = []
    while process.poll() is None:
        look = look_at(process.pid, folder)
        if look and (not looks or look.task > looks[-1].task):
            looks.append(look)
        time.sleep(PAUSE)
    if process.returncode:
        return [f"exit code {process.returncode}: {(folder / 'log').read_text().strip()[-300:]}"]
    # Not the very last task, after which all tasks are evaluated.
    early, late = part(looks, 0.2, 0.39), part(looks, 0.8, 0.99)
    ratios = {
        "memory": (ratio(early, late, "memory"), MORE_MEMORY),
        "open files": (ratio(early, late, "files"), MORE_FILES),
        "CPU seconds a task": (pace(late) / pace(early), MORE_TIME),
    }
    print("; ".join(f"{name} x {grown:.3f}" for name, (grown, _) in ratios.items()), flush=True)
    return [f"{name} grew x {grown:.3f}" for name, (grown, allowed) in ratios.items() if grown > allowed]


def look_at(pid: int, folder: Path) -> Look | None:
    """How far the run is and what it holds; None before its first checkpoint and at its end."""
    try:
        newest = max((only_run(folder) / "checkpoints").glob("task-*"))
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files = len(os.listdir(f"/proc/{pid}/fd"))
        # Behind the name in brackets; other processes make no second of this longer.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except (OSError, ValueError, IndexError, AssertionError):
        return None
    at = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return Look(int(newest.name.split("-")[1]), at, pages * os.sysconf("SC_PAGE_SIZE"), files)


def part(looks: Sequence[Look], first: float, last: float) -> list[Look]:
    return [look for look in looks if first * TASKS <= look.task <= last * TASKS]


def ratio(early: Sequence[Look], late: Sequence[Look], name: str) -> float:
    return statistics.median(getattr(x, name) for x in late) / statistics.median(getattr(x, name) for x in early)


def pace(looks: Sequence[Look]) -> float:
    """CPU seconds a task."""
    return (looks[-1].at - looks[0].at) / (looks[-1].task - looks[0].task)
