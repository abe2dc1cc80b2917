"""Metrics on matrices written by hand, their identities, and intervals against scipy's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttt.metrics.matrix import METRICS, bwt_gem, forgetting_at_learn, forgetting_max_seen, why_undefined
from ttt.metrics.seeds import t_interval

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
            {"avg_final": -2.0, "forgetting_max_seen": 1.0, "bwt_gem": -1.0, "fwt_b_row0": 0.5},
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
        assert METRICS[name](matrix) == pytest.approx(value, nan_ok=True), name


MATRICES = st.integers(2, 6).flatmap(lambda j: arrays(np.float64, (j + 1, j), elements=st.floats(-5, 5)))


@given(MATRICES)
def test_identities(a):
    assert forgetting_at_learn(a) == pytest.approx(-bwt_gem(a))
    assert forgetting_max_seen(a) >= forgetting_at_learn(a) - 1e-12


@given(MATRICES, st.floats(-3, 3))
def test_a_constant_changes_no_difference(a, constant):
    for name in ("forgetting_max_seen", "forgetting_at_learn", "bwt_gem", "fwt_b_row0"):
        assert METRICS[name](a + constant) == pytest.approx(METRICS[name](a), abs=1e-9)


def test_a_constant_matrix_forgets_nothing():
    for name in ("forgetting_max_seen", "bwt_gem", "fwt_b_row0"):
        assert METRICS[name](np.full((5, 4), 0.7)) == pytest.approx(0)


def test_an_unmeasured_cell_is_nan_and_named():
    a = FALLS.copy()
    a[3, 0] = np.nan
    assert math.isnan(METRICS["avg_final"](a))
    assert math.isnan(METRICS["forgetting_max_seen"](a))
    # What does not need the cell is still known.
    assert METRICS["avg_learning"](a) == pytest.approx(0.9)
    assert METRICS["fwt_b_row0"](a) == pytest.approx(0.1)
    assert why_undefined(a) == "task 1 was not measured after 3 tasks"


def test_t_interval_against_the_published_quantiles():
    for n, quantile in ((3, 4.303), (5, 2.776), (10, 2.262), (20, 2.093)):
        values = list(range(n))
        interval = t_interval(values)
        assert interval.mean == pytest.approx((n - 1) / 2)
        assert interval.half == pytest.approx(quantile * np.std(values, ddof=1) / math.sqrt(n), rel=1e-3)
    assert math.isnan(t_interval([1.0]).half)
    assert not t_interval([1.0]).resolved
