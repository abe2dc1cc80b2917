"""Statistics over seeds: the unit is the run, never the task or the token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """mean +- half: the 95 % t-interval, mean +- t_{n-1, 0.975} * sd / sqrt(n). NaN half for n = 1."""

    mean: float
    half: float
    n: int

    @property
    def resolved(self) -> bool:
        """Does the interval leave out zero?"""
        return abs(self.mean) > self.half


def t_interval(values: Sequence[float]) -> Interval:
    # Imported here: only a comparison needs it.
    from scipy.stats import t

    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    half = float(t.ppf(0.975, n - 1) * x.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Interval(mean=float(x.mean()) if n else float("nan"), half=half, n=n)
