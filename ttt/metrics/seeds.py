"""Statistics over seeds. The sample is always the runs, never the tasks or tokens of one run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Up to this many sign patterns are enumerated for the exact p; of more, this many are drawn.
FLIPS = 10_000


class Interval(NamedTuple):
    """The 95 % t-interval mean +- half, half = t_{n-1, 0.975} * sd / sqrt(n).

    half and sd are NaN for n = 1.
    """

    mean: float
    half: float
    n: int
    sd: float

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes zero."""
        # NaN compares false, so a single run resolves nothing.
        return abs(self.mean) > self.half


def t_interval(values: Sequence[float]) -> Interval:
    """Return the mean of one value per run with its 95 % interval; all NaN without values."""
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    sd = float(x.std(ddof=1)) if n > 1 else float("nan")
    half = _quantile(n - 1) * sd / float(np.sqrt(n)) if n > 1 else float("nan")
    return Interval(mean=float(x.mean()) if n else float("nan"), half=half, n=n, sd=sd)


@lru_cache
def _quantile(freedom: int) -> float:
    # Imported here, since only comparisons need it; cached, since a table has few distinct counts.
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def sign_flip(differences: Sequence[float]) -> float:
    """Return the two-sided p of the paired sign-flip test (Fisher 1935): no normality is assumed.

    p is the share of random sign patterns whose mean lies at least this far from zero. With n pairs
    it is at least 2 / 2^n, which is 0.0625 for five seeds. NaN below two pairs, or where a value is
    missing.
    """
    x = np.asarray(differences, dtype=np.float64)
    if len(x) < 2 or np.isnan(x).any():
        return float("nan")
    from scipy.stats import permutation_test

    # A fixed generator: a table must not change when it is printed again.
    test = permutation_test(
        (x,), np.mean, permutation_type="samples", vectorized=True, n_resamples=FLIPS, rng=np.random.default_rng(0)
    )
    return float(test.pvalue)
