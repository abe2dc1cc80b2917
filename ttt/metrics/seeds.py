"""Statistics over seeds. The sample is always the runs, never the tasks or tokens of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ttt.metrics.matrix import Matrix, per_gained

NAN, INF = float("nan"), float("inf")
# Up to this many sign patterns are enumerated for the exact p; of more, this many are drawn.
FLIPS = 10_000
# What rounding leaves of a spread of zero, as a share of the mean.
ROUNDING = 1e-9
# t_{n, 0.975} for n = 1, 2, ... With few seeds or tasks they save the import of scipy, a seventh of
# the time in which a run that is done is shown.
QUANTILES = (
    12.706204736174694, 4.302652729749462, 3.1824463052837078, 2.7764451051977934, 2.5705818356363146,
    2.4469118511449786, 2.364624251592784, 2.306004135204166, 2.262157162798205, 2.228138851986274,
    2.200985160091639, 2.1788128296672284, 2.1603686564627913, 2.144786687917804, 2.131449545559776,
    2.1199052992212546, 2.1098155778333156, 2.1009220402410382, 2.0930240544083087, 2.085963447265864,
    2.0796138447276795, 2.0738730679040254, 2.0686576104190486, 2.0638985616280245, 2.0595385527532972,
    2.0555294386428735, 2.0518305164802846, 2.0484071417952454, 2.045229642132703, 2.0422724563012378,
    2.039513446396408, 2.0369333434601016, 2.0345152974493383, 2.0322445093177186, 2.030107928250343,
    2.0280940009804502, 2.0261924630291093, 2.0243941639119694, 2.022690920036761, 2.021075390306273,
    2.019540970441376, 2.0180817028184443, 2.016692199227824, 2.0153675744437636, 2.014103388880846,
    2.012895598919429, 2.0117405137297655, 2.010634757624232, 2.0095752371292392, 2.008559112100761,
    2.007583770315836, 2.006646805061688, 2.0057459953178687, 2.0048792881880564, 2.0040447832891455,
    2.003240718847872, 2.002465459291007, 2.0017174841452356, 2.000995378088267, 2.0002978220142604,
)  # fmt: skip


class Interval(NamedTuple):
    """A mean and its 95 % interval: mean +- half, or from one of `ends` to the other.

    half and sd are NaN for n = 1. Infinite ends: the values do not bound the mean.
    """

    mean: float
    half: float
    n: int
    sd: float
    ends: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        return self.mean - self.half if self.ends is None else self.ends[0]

    @property
    def high(self) -> float:
        return self.mean + self.half if self.ends is None else self.ends[1]

    @property
    def is_flat(self) -> bool:
        """Whether all values behind it are equal: nothing is known then of how they would vary."""
        return self.n > 1 and self.high - self.low <= ROUNDING * abs(self.mean)

    @property
    def resolved(self) -> bool:
        """Whether the interval has a width and excludes zero."""
        # NaN compares false, so a single run resolves nothing.
        return not self.is_flat and (self.low > 0 or self.high < 0)


def between(mean: float, low: float, high: float, *, n: int, sd: float = NAN) -> Interval:
    """Return an interval whose ends need not lie evenly around its mean."""
    return Interval(mean, (high - low) / 2, n, sd, (low, high))


def t_interval(values: Sequence[float]) -> Interval:
    """Return the mean of one value per run with its 95 % t-interval; all NaN without values.

    half = t_{n-1, 0.975} * sd / sqrt(n).
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    # ddof=1 because the mean was estimated from the same values.
    sd = float(x.std(ddof=1)) if n > 1 else NAN
    half = t_quantile(n - 1) * sd / float(np.sqrt(n)) if n > 1 else NAN
    return Interval(mean=float(x.mean()) if n else NAN, half=half, n=n, sd=sd)


def fieller(pairs_N2: Matrix) -> Interval:
    """Return the sum of numerators over the sum of denominators, with Fieller's 95 % interval.

    It holds every ratio theta for which the t-test does not reject that numerator - theta *
    denominator has mean zero (Fieller 1954). Where the denominator itself is not told from zero,
    that set has no bounds. A mean of the ratios of the runs would be ruled by those runs whose
    denominator happens to be smallest. NaN where the mean denominator is no more than noise.
    """
    n, ratio, sd = len(pairs_N2), ratio_of(pairs_N2), spread(pairs_N2)
    if n < 2 or math.isnan(ratio):
        return between(ratio, NAN, NAN, n=n)
    x, y = map(float, pairs_N2.mean(0))
    (xx, xy), (_, yy) = (t_quantile(n - 1) ** 2 * np.cov(pairs_N2.T) / n).tolist()
    # The bounds are the roots of (y^2 - yy) theta^2 - 2 (x y - xy) theta + (x^2 - xx).
    # With |mean of the denominators| <= t * its standard error, `square` is not positive.
    square, linear, rest = y * y - yy, x * y - xy, x * x - xx
    if square <= 0:
        return between(ratio, -INF, INF, n=n, sd=sd)
    root = math.sqrt(max(linear * linear - square * rest, 0.0))
    return between(ratio, (linear - root) / square, (linear + root) / square, n=n, sd=sd)


def ratio_of(pairs_N2: Matrix) -> float:
    """Return the ratio of the means of numerators and denominators; NaN without pairs."""
    return per_gained(*map(float, pairs_N2.mean(0))) if len(pairs_N2) else NAN


def spread(pairs_N2: Matrix) -> float:
    """Return the standard deviation of the ratios of single runs; NaN where one is undefined."""
    ratios = [per_gained(*map(float, pair)) for pair in pairs_N2]
    return float(np.std(ratios, ddof=1)) if len(ratios) > 1 else NAN


def ratio_difference(pairs_N2: Matrix, others_N2: Matrix) -> Interval:
    """Return how much one ratio of means exceeds another over the same runs, by the jackknife.

    Each run is left out in turn (Tukey 1958): pseudo-values n D - (n - 1) D_without have the spread
    of the difference D, and their t-interval is laid around D.
    """
    n = len(pairs_N2)
    difference = ratio_of(pairs_N2) - ratio_of(others_N2)
    if n < 2:
        return between(difference, NAN, NAN, n=n)
    rest = [[j for j in range(n) if j != i] for i in range(n)]
    without = np.array([ratio_of(pairs_N2[keep]) - ratio_of(others_N2[keep]) for keep in rest])
    interval = t_interval((n * difference - (n - 1) * without).tolist())
    return interval._replace(mean=difference)


@lru_cache
def t_quantile(freedom: int) -> float:
    """Return t_{freedom, 0.975}."""
    if 0 < freedom <= len(QUANTILES):
        return QUANTILES[freedom - 1]
    # Imported here, and not scipy.stats, which takes half a second; cached, since a table has few
    # distinct counts.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def sign_flip(differences: Sequence[float]) -> float:
    """Return the two-sided p of the paired sign-flip test (Fisher 1935): no normality is assumed.

    p is the share of random sign patterns whose mean lies at least this far from zero. With n pairs
    it is at least 2 / 2^n, which is 0.0625 for five seeds. NaN below two pairs, or where a value is
    missing.
    """
    x = np.asarray(differences, dtype=np.float64)
    if len(x) < 2 or np.isnan(x).any():
        return NAN
    from scipy.stats import permutation_test

    # A fixed generator: a table must not change when it is printed again.
    test = permutation_test(
        (x,), np.mean, permutation_type="samples", vectorized=True, n_resamples=FLIPS, rng=np.random.default_rng(0)
    )
    return float(test.pvalue)
