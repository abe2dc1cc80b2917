"""Is this checkout slower than a commit? The same commands on both, by turns in one run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from ttt.cli.benches.jobs import jobs
from ttt.cli.benches.timing import Row, paired
from ttt.cli.benches.trees import checkout, code_of, tree_of
from ttt.cli.benches.typed import Job, Side, seconds_of_children
from ttt.metrics.seeds import Interval, t_interval
from ttt.run.signals import terminable

# Slower by more than this is a fault, if the interval says that it is slower at all.
TOLERATED = 1.05


def measure_against(commit: str, benches: Sequence[str], *, rounds: int) -> Iterator[Row]:
    """Yield a row for each command: CPU seconds, and new over old with its 95 % interval.

    What was checked out is removed in the end, also after Ctrl-C or SIGTERM.
    """
    with terminable(), TemporaryDirectory(prefix="ttt-bench-") as name:
        folder = Path(name)
        # Both lie in temporary folders, so that neither is read from a warmer place.
        trees = {"old": code_of(commit, folder / "code"), "new": checkout()}
        sides = {key: Side(folder / key, tree_of(code, folder / f"tree-{key}")) for key, code in trees.items()}
        for job in jobs():
            if job.bench in benches:
                yield _measured(job, sides, rounds=rounds)


def _measured(job: Job, sides: dict[str, Side], *, rounds: int) -> Row:
    try:
        for side in sides.values():
            side.prepare(job)
        seconds = paired({key: side.time(job) for key, side in sides.items()}, rounds=rounds, clock=seconds_of_children)
    # A command that the commit does not have yet.
    except ValueError as error:
        return {"bench": job.bench, "command": job.name, "why not": str(error)}
    over = ratio_of(seconds["new"], seconds["old"])
    return {
        "bench": job.bench,
        "command": job.name,
        "new s": median(seconds["new"]),
        "old s": median(seconds["old"]),
        "new over old": math.exp(over.mean),
        "low": math.exp(over.low),
        "high": math.exp(over.high),
    }


def ratio_of(new: Sequence[float], old: Sequence[float]) -> Interval:
    """The logarithm of new over old, round by round, with its 95 % t-interval."""
    return t_interval([math.log(a / b) for a, b in zip(new, old, strict=True)])


def is_slower(row: Row) -> bool:
    """Is the new code slower by more than TOLERATED, and does the interval resolve it?"""
    over, low = row.get("new over old"), row.get("low")
    return isinstance(over, float) and isinstance(low, float) and over > TOLERATED and low > 1
