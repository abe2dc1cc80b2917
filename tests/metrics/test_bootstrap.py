"""Intervals of ratios and bootstraps, against formulas, scipy and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from ttt.metrics.bootstrap import Sample, bootstrap, bootstrap_difference, over_tasks, values_of
from ttt.metrics.seeds import fieller, ratio_difference

RNG = np.random.default_rng(3)
PAIRS = np.stack([RNG.normal(0.4, 0.1, 6), RNG.normal(1.2, 0.2, 6)], axis=1)


def t_statistic(theta, pairs):
    """The t of the hypothesis that numerator - theta * denominator has mean zero."""
    d = pairs[:, 0] - theta * pairs[:, 1]
    return d.mean() / (d.std(ddof=1) / math.sqrt(len(d)))


def plain(*values, base=0):
    return [Sample(base, np.array([[value, 1.0]])) for value in values]


def test_fieller_holds_the_ratios_that_a_t_test_does_not_reject():
    interval, limit = fieller(PAIRS), stats.t.ppf(0.975, len(PAIRS) - 1)
    ratio = PAIRS[:, 0].sum() / PAIRS[:, 1].sum()
    assert interval.mean == pytest.approx(ratio)
    assert interval.low == pytest.approx(brentq(lambda x: t_statistic(x, PAIRS) - limit, ratio - 5, ratio))
    assert interval.high == pytest.approx(brentq(lambda x: t_statistic(x, PAIRS) + limit, ratio, ratio + 5))


def test_fieller_against_its_textbook_form():
    """With g = t^2 v22 / b^2: (r - g v12 / v22 +- t / b sqrt(v11 - 2 r v12 + r^2 v22 - g (...))) / (1 - g)."""
    (a, b), n = PAIRS.mean(0), len(PAIRS)
    (v11, v12), (_, v22) = np.cov(PAIRS.T) / n
    t, r = stats.t.ppf(0.975, n - 1), a / b
    g = t**2 * v22 / b**2
    arm = t / b * math.sqrt(v11 - 2 * r * v12 + r**2 * v22 - g * (v11 - v12**2 / v22))
    middle = r - g * v12 / v22
    interval = fieller(PAIRS)
    assert (interval.low, interval.high) == pytest.approx(((middle - arm) / (1 - g), (middle + arm) / (1 - g)))


def test_a_denominator_that_may_be_zero_bounds_nothing():
    unbounded = fieller(np.array([[0.3, 2.0], [0.4, -1.0], [0.2, 1.0]]))
    assert (unbounded.low, unbounded.high) == (-math.inf, math.inf)
    assert not unbounded.resolved
    assert unbounded.mean == pytest.approx(0.9 / 2.0)
    # Where no more than noise was gained there is no ratio at all; of one run there is no interval.
    assert math.isnan(fieller(np.array([[0.3, 0.001], [0.4, -0.001]])).mean)
    assert math.isnan(fieller(PAIRS[:1]).low)


def test_a_difference_of_ratios_by_the_jackknife():
    others = PAIRS[::-1] * [1.5, 1.0]
    interval = ratio_difference(PAIRS, others)

    def difference(rows):
        return PAIRS[rows, 0].sum() / PAIRS[rows, 1].sum() - others[rows, 0].sum() / others[rows, 1].sum()

    n, every = len(PAIRS), list(range(len(PAIRS)))
    assert interval.mean == pytest.approx(difference(every))
    without = np.array([difference([j for j in every if j != i]) for i in every])
    error = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    assert interval.high - interval.mean == pytest.approx(stats.t.ppf(0.975, n - 1) * error)
    # Of equal denominators it is the t-interval of the plain differences.
    flat, more = PAIRS * [1, 0] + [0, 1], others * [1, 0] + [0, 1]
    x = stats.t.interval(0.95, n - 1, *_mean_and_error(flat[:, 0] - more[:, 0]))
    assert (ratio_difference(flat, more).low, ratio_difference(flat, more).high) == pytest.approx(x)


def _mean_and_error(x):
    return x.mean(), x.std(ddof=1) / math.sqrt(len(x))


def test_one_level_is_the_bootstrap_of_scipy():
    x = np.random.default_rng(1).gamma(2.0, size=12)
    theirs = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    ours = bootstrap(plain(*x), draws=20_000)
    assert ours.mean == pytest.approx(x.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.03)
    assert ours.sd == pytest.approx(x.std(ddof=1))


def test_each_level_adds_its_variance():
    """Of equal numbers below a level, only that level is left to vary."""
    # Two bases: in a quarter of the draws both are the first one. Of six seeds it is 1 in 64.
    bases = bootstrap([*plain(0.5, 0.5, 0.5, base="a"), *plain(2.5, 2.5, 2.5, base="b")])
    assert (bases.low, bases.high) == pytest.approx((0.5, 2.5))
    seeds = bootstrap(plain(0.5, 0.5, 0.5, 2.5, 2.5, 2.5))
    assert 0.5 < seeds.low < seeds.high < 2.5
    # A base with more seeds weighs more where it is drawn: here 1, (0 + 3) / 4 or 0.
    uneven = bootstrap([*plain(0.0, base="a"), *plain(1.0, 1.0, 1.0, base="b")])
    assert (uneven.low, uneven.mean, uneven.high) == pytest.approx((0.0, 0.75, 1.0))
    # Equal runs of unequal tasks vary by their tasks, as loops over a binomial say.
    tasks = [Sample(0, np.array([[0.0, 1.0], [1.0, 1.0]])) for _ in range(4)]
    low, high = stats.binom(8, 0.5).ppf([0.025, 0.975]) / 8
    drawn = bootstrap(tasks)
    assert (drawn.low, drawn.high) == pytest.approx((low, high))


def test_what_two_arms_share_cancels_out():
    shared = [np.stack([row, np.ones(5)], axis=1) for row in RNG.normal(size=(4, 5))]
    arms = [[Sample(0, pairs + np.array([shift, 0.0])) for pairs in shared] for shift in (0.7, 0.0)]
    interval = bootstrap_difference(*arms)
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.7, 0.7, 0.7))


def test_a_null_is_subtracted_from_numerators_and_from_the_denominators_of_ratios():
    pairs, null = np.array([[0.5, 1.0], [0.7, 1.0]]), np.array([[0.1, 0.0], [0.3, 0.0]])
    assert Sample(0, pairs, null).value() == pytest.approx([0.6 - 0.2, 1.0])
    ratio = Sample(0, np.array([[0.5, 2.0]]), np.array([[0.1, 0.2]]))
    assert ratio.value() == pytest.approx([0.4, 1.8])


def test_summaries_over_tasks():
    column = np.array([9.0, *range(9)])
    pairs = np.stack([column, np.ones(10)], axis=1)
    assert over_tasks(pairs, over="mean") == pytest.approx([4.5, 1.0])
    assert over_tasks(pairs, over="median") == pytest.approx([np.median(column), 1.0])
    # Without the lowest and the highest of ten.
    assert over_tasks(pairs, over="trimmed") == pytest.approx([np.mean(range(1, 9)), 1.0])
    assert values_of([Sample(0, pairs, over="median")]) == pytest.approx(np.array([[4.5, 1.0]]))


def test_one_run_has_no_interval_however_many_tasks_it_has():
    assert math.isnan(bootstrap([Sample(0, PAIRS)]).low)
    assert math.isnan(bootstrap(plain(1.0, math.nan, 2.0)).mean)
