"""How much memory is free on this machine."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO, LIMIT, USED = (
    Path("/proc/meminfo"),
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory.current"),
)


def available_bytes() -> int | None:
    """Return the bytes that a process may still take, within its container; None if unknown."""
    free = []
    if MEMINFO.is_file():
        lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
        free.append(1024 * int(lines["MemAvailable"].split()[0]))
    elif "SC_AVPHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # A container's limit is a number, or the word max.
    if LIMIT.is_file() and USED.is_file() and LIMIT.read_text().strip().isdigit():
        free.append(int(LIMIT.read_text()) - int(USED.read_text()))
    return min(free, default=None)


def gigabytes(count: float) -> str:
    """Return bytes as text, such as `2.2 GB`."""
    return f"{count / 1e9:.1f} GB"
