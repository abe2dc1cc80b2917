"""Metrics of a result matrix: by hand on small matrices, and along a stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
from result_matrices import FALLS, HELPS, METRICS, metric, plain_rows

from ttt.metrics.matrix import along, needed_cell


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (
            FALLS,
            {
                "avg_before": (0.1 + 0.2 + 0.3) / 3,
                "avg_final": (0.6 + 0.7 + 1.0) / 3,
                "avg_learning": (0.9 + 0.8 + 1.0) / 3,
                "avg_incremental": (0.9 + (0.5 + 0.8) / 2 + (0.6 + 0.7 + 1.0) / 3) / 3,
                "avg_triangle": (0.9 + 0.5 + 0.8 + 0.6 + 0.7 + 1.0) / 6,
                "forgetting_max_seen": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "forgetting_max_rows": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "forgetting_max_last": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "forgetting_at_learn": ((0.9 - 0.6) + (0.8 - 0.7)) / 2,
                "bwt_gem": ((0.6 - 0.9) + (0.7 - 0.8)) / 2,
                "bwt_pairs": ((0.5 - 0.9) + (0.6 - 0.9) + (0.7 - 0.8)) / 3,
                "fwt_b_row0": ((0.2 - 0.2) + (0.5 - 0.3)) / 2,
                "fwt_pairs_raw": (0.2 + 0.4 + 0.5) / 3,
                "learning_slope": (1.0 - 0.9) / 2,
                "gained_slope": (0.7 - 0.8) / 2,
                "gained": (0.8 + 0.6 + 0.7) / 3,
                "kept": (0.5 + 0.5 + 0.7) / 3,
                # Of tasks 1 and 2, which can be forgotten: 0.4 of the 1.4 that was gained.
                "forgetting_per_gained": 0.4 / 1.4,
            },
        ),
        (
            HELPS,
            {
                "avg_before": 0.9 / 3,
                "avg_final": 2.0 / 3,
                "avg_learning": (0.5 + 0.4 + 0.7) / 3,
                "avg_incremental": (0.5 + (0.6 + 0.4) / 2 + 2.0 / 3) / 3,
                "avg_triangle": (0.5 + 0.6 + 0.4 + 0.8 + 0.5 + 0.7) / 6,
                "forgetting_max_seen": ((0.6 - 0.8) + (0.4 - 0.5)) / 2,
                # Only this variant counts row 1, before task 2 was learned.
                "forgetting_max_rows": ((0.6 - 0.8) + (0.9 - 0.5)) / 2,
                "forgetting_max_last": 0.0,
                "forgetting_at_learn": ((0.5 - 0.8) + (0.4 - 0.5)) / 2,
                "bwt_gem": ((0.8 - 0.5) + (0.5 - 0.4)) / 2,
                "bwt_pairs": ((0.6 - 0.5) + (0.8 - 0.5) + (0.5 - 0.4)) / 3,
                "fwt_b_row0": 0.0,
                "fwt_pairs_raw": 0.9 / 3,
                "learning_slope": (0.7 - 0.5) / 2,
                "gained_slope": (0.7 - 0.5) / 2,
                "gained": (0.5 - 0.5 + 0.7) / 3,
                "kept": (0.8 - 0.4 + 0.7) / 3,
                # Learning task 2 lost what learning task 1 gained.
                "forgetting_per_gained": math.nan,
            },
        ),
        # Oriented losses of two tasks: forgetting is positive where the loss went up.
        (
            -np.array([[4.0, 4.0], [2.0, 3.5], [3.0, 1.0]]),
            {
                "avg_before": -4.0,
                "avg_final": -2.0,
                "avg_learning": -1.5,
                "avg_incremental": -(2.0 + (3.0 + 1.0) / 2) / 2,
                "avg_triangle": -(2.0 + 3.0 + 1.0) / 3,
                "forgetting_max_seen": 1.0,
                "forgetting_max_rows": 1.0,
                "forgetting_max_last": 1.0,
                "forgetting_at_learn": 1.0,
                "bwt_gem": -1.0,
                "bwt_pairs": -1.0,
                "fwt_b_row0": 0.5,
                "fwt_pairs_raw": -3.5,
                "learning_slope": math.nan,
                "gained_slope": math.nan,
                "gained": (2.0 + 3.0) / 2,
                "kept": (1.0 + 3.0) / 2,
                "forgetting_per_gained": 0.5,
            },
        ),
        (
            np.array([[0.0], [0.5]]),
            {name: math.nan for name in METRICS}
            | {"avg_before": 0.0, "avg_final": 0.5, "avg_learning": 0.5, "avg_incremental": 0.5, "avg_triangle": 0.5}
            | {"gained": 0.5, "kept": 0.5},
        ),
    ],
)
def test_every_metric_by_hand(matrix, expected):
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        assert metric(name, matrix) == pytest.approx(value, nan_ok=True, abs=1e-12), name


def test_an_unmeasured_cell_is_nan_and_named():
    a = FALLS.copy()
    a[3, 0] = np.nan
    assert math.isnan(metric("avg_final", a))
    assert math.isnan(metric("forgetting_max_seen", a))
    # Metrics that do not need the cell are not affected.
    assert metric("avg_learning", a) == pytest.approx(0.9)
    assert metric("fwt_b_row0", a) == pytest.approx(0.1)
    assert needed_cell(METRICS["avg_final"], a, plain_rows(3)) == (3, 0)
    # With too few tasks no cell would help.
    assert needed_cell(METRICS["bwt_gem"], np.zeros((2, 1)), plain_rows(1)) is None
    assert needed_cell(METRICS["learning_slope"], np.zeros((3, 2)), plain_rows(2)) is None


def test_a_task_that_comes_again_counts_from_its_first_time():
    """Tasks 1, 2, 1: both are old at the end, since the last phase teaches no new task."""
    a = np.array([[0.0, 0.1], [0.8, 0.2], [0.3, 0.9], [0.7, 0.5]])
    at = np.array([1, 2])
    assert METRICS["avg_learning"](a, at) == pytest.approx((0.8 + 0.9) / 2)
    assert METRICS["forgetting_max_seen"](a, at) == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert METRICS["bwt_gem"](a, at) == pytest.approx(((0.7 - 0.8) + (0.5 - 0.9)) / 2)
    assert METRICS["bwt_pairs"](a, at) == pytest.approx(((0.3 - 0.8) + (0.7 - 0.8) + (0.5 - 0.9)) / 3)
    assert METRICS["forgetting_max_last"](a, at) == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert METRICS["avg_incremental"](a, at) == pytest.approx((0.8 + (0.3 + 0.9) / 2 + (0.7 + 0.5) / 2) / 3)
    assert METRICS["avg_triangle"](a, at) == pytest.approx((0.8 + 0.3 + 0.7 + 0.9 + 0.5) / 5)
    assert METRICS["fwt_b_row0"](a, at) == pytest.approx(0.2 - 0.1)
    assert METRICS["fwt_pairs_raw"](a, at) == pytest.approx(0.2)


def test_a_thinned_matrix_keeps_what_it_can():
    """The diagonal, the cell before it, and the last row suffice for learning, transfer and
    forgetting since then."""
    full = np.random.default_rng(0).normal(size=(7, 6))
    thin = np.full_like(full, np.nan)
    thin[[0, -1]] = full[[0, -1]]
    for i in range(1, 6):
        thin[i, [i - 1, i]] = full[i, [i - 1, i]]
    for name in ("avg_learning", "avg_final", "forgetting_at_learn", "bwt_gem", "fwt_b_row0"):
        assert metric(name, thin) == pytest.approx(metric(name, full)), name
    for name in ("forgetting_max_seen", "forgetting_max_rows", "avg_incremental", "bwt_pairs", "fwt_pairs_raw"):
        assert math.isnan(metric(name, thin)), name
    # The first missing cell, task 3 in row 1, is not one that forgetting needs.
    assert needed_cell(METRICS["forgetting_max_seen"], thin, plain_rows(6)) == (2, 0)


def test_a_metric_along_the_stream_by_hand():
    a = np.array([[0.1, 0.2], [0.8, 0.3], [0.5, 0.9]])
    at = plain_rows(2)
    assert along(METRICS["avg_final"], a, at) == pytest.approx([math.nan, 0.8, 0.7], nan_ok=True)
    assert along(METRICS["forgetting_at_learn"], a, at) == pytest.approx([math.nan, math.nan, 0.3], nan_ok=True)
    # An unmeasured row leaves a gap in the curve, and nothing after it.
    a = np.array([[0.1, 0.2, 0.0], [0.8, 0.3, 0.0], [math.nan, 0.9, 0.0], [0.7, 0.8, 0.9]])
    assert along(METRICS["avg_final"], a, plain_rows(3)) == pytest.approx([math.nan, 0.8, math.nan, 0.8], nan_ok=True)
