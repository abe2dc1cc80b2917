"""Metrics on matrices written by hand, their identities, and intervals against scipy's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttt.metrics.frontier import dominated_area
from ttt.metrics.matrix import METRICS, along, plain_rows, why_undefined
from ttt.metrics.seeds import sign_flip, t_interval


def metric(name, a):
    """Where each task is learned once, in order."""
    return METRICS[name](a, plain_rows(a.shape[1]))


# Rows: before the stream, after task 1, 2, 3. Task 1 falls, then comes back a little.
FALLS = np.array([[0.1, 0.2, 0.3], [0.9, 0.2, 0.4], [0.5, 0.8, 0.5], [0.6, 0.7, 1.0]])
# Later training helps task 1; zero-shot on task 2 beats what learning leaves.
HELPS = np.array([[0.0, 0.9, 0.0], [0.5, 0.9, 0.0], [0.6, 0.4, 0.0], [0.8, 0.5, 0.7]])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (
            FALLS,
            {
                "avg_before": (0.1 + 0.2 + 0.3) / 3,
                "avg_final": (0.6 + 0.7 + 1.0) / 3,
                "avg_learning": (0.9 + 0.8 + 1.0) / 3,
                "forgetting_max_seen": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "forgetting_at_learn": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "bwt_gem": ((0.6 - 0.9) + (0.7 - 0.8)) / 2,
                "fwt_b_row0": ((0.2 - 0.2) + (0.5 - 0.3)) / 2,
                "learning_slope": (1.0 - 0.9) / 2,
            },
        ),
        (
            HELPS,
            {
                "avg_final": 2.0 / 3,
                "avg_learning": (0.5 + 0.4 + 0.7) / 3,
                "forgetting_max_seen": ((0.6 - 0.8) + (0.4 - 0.5)) / 2,
                "forgetting_at_learn": ((0.5 - 0.8) + (0.4 - 0.5)) / 2,
                "bwt_gem": ((0.8 - 0.5) + (0.5 - 0.4)) / 2,
                "fwt_b_row0": 0.0,
            },
        ),
        # Losses, oriented by the caller: forgetting is positive when the loss went up.
        (
            -np.array([[4.0, 4.0], [2.0, 3.5], [3.0, 1.0]]),
            {"avg_final": -2.0, "forgetting_max_seen": 1.0, "bwt_gem": -1.0, "fwt_b_row0": 0.5,
             "learning_slope": math.nan},
        ),
        (
            np.array([[0.0], [0.5]]),
            {"avg_final": 0.5, "avg_learning": 0.5, "forgetting_max_seen": math.nan, "bwt_gem": math.nan,
             "fwt_b_row0": math.nan},
        ),
    ],
)  # fmt: skip
def test_by_hand(matrix, expected):
    for name, value in expected.items():
        assert metric(name, matrix) == pytest.approx(value, nan_ok=True), name


MATRICES = st.integers(2, 6).flatmap(lambda j: arrays(np.float64, (j + 1, j), elements=st.floats(-5, 5)))


@given(MATRICES)
def test_identities(a):
    assert metric("forgetting_at_learn", a) == pytest.approx(-metric("bwt_gem", a))
    assert metric("forgetting_max_seen", a) >= metric("forgetting_at_learn", a) - 1e-12


@given(MATRICES, st.floats(-3, 3))
def test_a_constant_changes_no_difference(a, constant):
    for name in ("forgetting_max_seen", "forgetting_at_learn", "bwt_gem", "fwt_b_row0"):
        assert metric(name, a + constant) == pytest.approx(metric(name, a), abs=1e-9)


def test_a_constant_matrix_forgets_nothing():
    for name in ("forgetting_max_seen", "bwt_gem", "fwt_b_row0"):
        assert metric(name, np.full((5, 4), 0.7)) == pytest.approx(0)


def test_an_unmeasured_cell_is_nan_and_named():
    a = FALLS.copy()
    a[3, 0] = np.nan
    assert math.isnan(metric("avg_final", a))
    assert math.isnan(metric("forgetting_max_seen", a))
    # What does not need the cell is still known.
    assert metric("avg_learning", a) == pytest.approx(0.9)
    assert metric("fwt_b_row0", a) == pytest.approx(0.1)
    assert why_undefined(a) == "task 1 was not measured in row 3 (see eval.every)"


def test_a_task_that_comes_again_counts_from_its_first_time():
    """Tasks 1, 2, 1: both are old at the end, for the last phase teaches none for the first time."""
    a = np.array([[0.0, 0.1], [0.8, 0.2], [0.3, 0.9], [0.7, 0.5]])
    at = np.array([1, 2])
    assert METRICS["avg_learning"](a, at) == pytest.approx((0.8 + 0.9) / 2)
    assert METRICS["forgetting_max_seen"](a, at) == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert METRICS["bwt_gem"](a, at) == pytest.approx(((0.7 - 0.8) + (0.5 - 0.9)) / 2)
    assert METRICS["fwt_b_row0"](a, at) == pytest.approx(0.2 - 0.1)


def test_a_thinned_matrix_keeps_what_it_can():
    """Diagonal, the cell before it, and the last row: learning, forgetting since learning and transfer are known."""
    full = np.random.default_rng(0).normal(size=(7, 6))
    thin = np.full_like(full, np.nan)
    thin[[0, -1]] = full[[0, -1]]
    for i in range(1, 6):
        thin[i, [i - 1, i]] = full[i, [i - 1, i]]
    for name in ("avg_learning", "avg_final", "forgetting_at_learn", "bwt_gem", "fwt_b_row0"):
        assert metric(name, thin) == pytest.approx(metric(name, full)), name
    assert math.isnan(metric("forgetting_max_seen", thin))


def test_t_interval_against_the_published_quantiles():
    for n, quantile in ((3, 4.303), (5, 2.776), (10, 2.262), (20, 2.093)):
        values = list(range(n))
        interval = t_interval(values)
        assert interval.mean == pytest.approx((n - 1) / 2)
        assert interval.half == pytest.approx(quantile * np.std(values, ddof=1) / math.sqrt(n), rel=1e-3)
    assert math.isnan(t_interval([1.0]).half)
    assert not t_interval([1.0]).resolved


def test_the_sign_flip_test_by_hand():
    # Of the 8 sign patterns only +++ and --- reach a mean of 2.
    assert sign_flip([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    # The sum is 1 and no pattern has a smaller one.
    assert sign_flip([1.0, 2.0, -2.0]) == pytest.approx(1.0)
    assert math.isnan(sign_flip([1.0]))
    assert math.isnan(sign_flip([1.0, float("nan")]))


def test_a_metric_along_the_stream_by_hand():
    a = np.array([[0.1, 0.2], [0.8, 0.3], [0.5, 0.9]])
    at = plain_rows(2)
    assert along(METRICS["avg_final"], a, at) == pytest.approx([math.nan, 0.8, 0.7], nan_ok=True)
    assert along(METRICS["forgetting_at_learn"], a, at) == pytest.approx([math.nan, math.nan, 0.3], nan_ok=True)
    # Not measured in a row: no mean there, but in the next.
    a = np.array([[0.1, 0.2, 0.0], [0.8, 0.3, 0.0], [math.nan, 0.9, 0.0], [0.7, 0.8, 0.9]])
    assert along(METRICS["avg_final"], a, plain_rows(3)) == pytest.approx([math.nan, 0.8, math.nan, 0.8], nan_ok=True)


def test_the_dominated_area_by_hand():
    assert dominated_area([(2.0, 1.0)], reference=(0.0, 0.0)) == 2.0
    # A staircase: 1 x 3, then what 2 x 2 and 3 x 1 add.
    assert dominated_area([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], reference=(0.0, 0.0)) == 6.0
    assert dominated_area([(1.0, 1.0), (-1.0, 5.0)], reference=(0.0, 0.0)) == 1.0
    assert dominated_area([], reference=(0.0, 0.0)) == 0.0
    assert math.isnan(dominated_area([(1.0, math.nan)], reference=(0.0, 0.0)))


@given(st.lists(st.tuples(st.integers(-3, 8), st.integers(-3, 8)), max_size=8))
def test_the_dominated_area_counts_unit_squares(points):
    """On whole numbers the area is the number of unit squares that some point dominates."""
    squares = sum(any(x > i and y > j for x, y in points) for i in range(8) for j in range(8))
    assert dominated_area([(float(x), float(y)) for x, y in points], reference=(0.0, 0.0)) == squares
