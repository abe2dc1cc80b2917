"""Time calls whose costs are to be compared: the sides alternate within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

# Column -> value: one line of a benchmark's table.
Row = dict[str, float | str]


class Ratio(NamedTuple):
    """How one side compares with another over the rounds of a benchmark."""

    low: float
    median: float
    high: float


def paired(
    sides: Mapping[str, Callable[[], None]], *, rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return the CPU seconds of each side in each round, after one uncounted call of each.

    The order of the sides is reversed from round to round, so that a machine that slows down or
    speeds up meanwhile favours neither.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    # The first call pays for caches, allocations and lazy initialisation.
    for call in sides.values():
        call()
    for i in range(rounds):
        for name in list(sides) if i % 2 == 0 else reversed(list(sides)):
            # CPU time: other processes of the machine would show in wall time.
            start = clock()
            sides[name]()
            seconds[name].append(clock() - start)
    return seconds


def ratio(over: list[float], under: list[float]) -> Ratio:
    """Divide round by round and return the least, the median and the greatest ratio."""
    # Neighbours in time saw the same machine: a ratio of medians would lose this pairing.
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    return Ratio(ratios[0], statistics.median(ratios), ratios[-1])
