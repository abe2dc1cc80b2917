"""Statistics over seeds: the unit is the run, never the task or the token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Up to this many flips are gone through one by one, which gives the exact p; above it as many are drawn.
FLIPS = 10_000


class Interval(NamedTuple):
    """mean +- half: the 95 % t-interval, mean +- t_{n-1, 0.975} * sd / sqrt(n). NaN half and sd for n = 1."""

    mean: float
    half: float
    n: int
    sd: float

    @property
    def resolved(self) -> bool:
        """Does the interval leave out zero?"""
        return abs(self.mean) > self.half


def t_interval(values: Sequence[float]) -> Interval:
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    sd = float(x.std(ddof=1)) if n > 1 else float("nan")
    half = _quantile(n - 1) * sd / float(np.sqrt(n)) if n > 1 else float("nan")
    return Interval(mean=float(x.mean()) if n else float("nan"), half=half, n=n, sd=sd)


@lru_cache
def _quantile(freedom: int) -> float:
    # Imported here: only a comparison needs it. Kept, because a table asks for few of them many times.
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the paired sign-flip test: how often random signs give a mean this far from zero.

    No normality is assumed (Fisher 1935). n pairs cannot give less than 2 / 2^n: 0.0625 for five seeds.
    NaN for fewer than two pairs or where one was not measured.
    """
    x = np.asarray(differences, dtype=np.float64)
    if len(x) < 2 or np.isnan(x).any():
        return float("nan")
    from scipy.stats import permutation_test

    test = permutation_test(
        (x,), np.mean, permutation_type="samples", vectorized=True, n_resamples=FLIPS, rng=np.random.default_rng(0)
    )
    return float(test.pvalue)
