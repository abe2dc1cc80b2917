"""Everything about a run that is not arithmetic, beside a program that does only what it must."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from ttt.cli.benches.jobs import jobs
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.cli.benches.typed import Job, Side, seconds_of_children


def measure_startup(*, rounds: int) -> Iterator[Row]:
    """Yield a row for each command: CPU seconds of all its processes, and of its floor."""
    with TemporaryDirectory(prefix="ttt-bench-") as folder:
        for job in jobs():
            if job.floor:
                yield _measured(job, Side(Path(folder)), rounds=rounds)


def _measured(job: Job, side: Side, *, rounds: int) -> Row:
    side.prepare(job)
    floor = partial(Side(side.place(job)).run, ["-c", job.floor])
    seconds = paired({"floor": floor, "ours": side.time(job)}, rounds=rounds, clock=seconds_of_children)
    over = ratio(seconds["ours"], seconds["floor"])
    return {
        "command": job.name,
        "s": median(seconds["ours"]),
        "floor": median(seconds["floor"]),
        "over floor": over.median,
        "least": over.low,
        "most": over.high,
    }
