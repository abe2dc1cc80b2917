"""Statistics over runs: intervals, the sign-flip test, and the dominated area."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from ttt.metrics.frontier import dominated_area
from ttt.metrics.seeds import QUANTILES, sign_flip, t_interval, t_quantile


def test_t_interval_against_the_published_quantiles():
    for n, quantile in ((3, 4.303), (5, 2.776), (10, 2.262), (20, 2.093)):
        values = list(range(n))
        interval = t_interval(values)
        assert interval.mean == pytest.approx((n - 1) / 2)
        assert interval.half == pytest.approx(quantile * np.std(values, ddof=1) / math.sqrt(n), rel=1e-3)
    assert math.isnan(t_interval([1.0]).half)
    assert not t_interval([1.0]).resolved


def test_quantiles_are_those_of_scipy_to_the_last_bit():
    counts = range(1, len(QUANTILES) + 5)
    assert [t_quantile(n) for n in counts] == [float(t.ppf(0.975, n)) for n in counts]


def test_the_sign_flip_test_by_hand():
    # Of the 8 sign patterns only +++ and --- reach a mean of 2.
    assert sign_flip([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    # The sum is 1, and no sign pattern has a sum nearer to zero.
    assert sign_flip([1.0, 2.0, -2.0]) == pytest.approx(1.0)
    assert math.isnan(sign_flip([1.0]))
    assert math.isnan(sign_flip([1.0, float("nan")]))


def test_the_dominated_area_by_hand():
    assert dominated_area([(2.0, 1.0)], reference=(0.0, 0.0)) == 2.0
    # A staircase of 3 + 2 + 1 unit squares.
    assert dominated_area([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], reference=(0.0, 0.0)) == 6.0
    assert dominated_area([(1.0, 1.0), (-1.0, 5.0)], reference=(0.0, 0.0)) == 1.0
    assert dominated_area([], reference=(0.0, 0.0)) == 0.0
    assert math.isnan(dominated_area([(1.0, math.nan)], reference=(0.0, 0.0)))


@given(st.lists(st.tuples(st.integers(-3, 8), st.integers(-3, 8)), max_size=8))
def test_the_dominated_area_counts_unit_squares(points):
    """On whole numbers the area is the number of unit squares that some point dominates."""
    squares = sum(any(x > i and y > j for x, y in points) for i in range(8) for j in range(8))
    assert dominated_area([(float(x), float(y)) for x, y in points], reference=(0.0, 0.0)) == squares
