"""How many CPU cores this process may use, which in a container or a job is not what the machine
has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path("/")


def usable_cores(*, root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> int:
    """The least of: the cores that the process may run on, its cgroup's quota, its SLURM job's.

    `root`: where the file system begins, `environment`: the variables, for tests.
    """
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    limits += _quotas(root)
    # SLURM may be set up to count cores without confining a job to them.
    limits += _number(environment, "SLURM_CPUS_PER_TASK")
    return max(1, min(limits))


def usable_threads(*, root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> int:
    """`usable_cores`, but no more than OMP_NUM_THREADS says."""
    return min([usable_cores(root=root, environment=environment), *_number(environment, "OMP_NUM_THREADS")])


def _number(environment: Mapping[str, str], name: str) -> list[int]:
    # OMP_NUM_THREADS may be a list, one entry for each level of nesting.
    text = environment.get(name, "").partition(",")[0]
    return [int(text)] if text.isdecimal() and int(text) > 0 else []


def _quotas(root: Path) -> Iterator[int]:
    """Whole cores in the CPU quota of the cgroup of this process and of those above it."""
    cgroups = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            # Version 2: "max 100000", or the quota and the period in microseconds.
            place = cgroups / path.lstrip("/")
            for folder in (place, *place.parents):
                quota, _, period = _text(folder / "cpu.max").partition(" ")
                yield from _whole(quota, period)
        elif "cpu" in controllers.split(","):
            place = cgroups / "cpu" / path.lstrip("/")
            # Inside a container the path is that of the host.
            for folder in (place, cgroups / "cpu"):
                yield from _whole(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _whole(quota: str, period: str) -> Iterator[int]:
    """A thread that waits for its quota makes all others wait: a part of a core counts as none."""
    if quota.strip().isdecimal() and period.strip().isdecimal():
        yield max(1, int(quota) // int(period))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
