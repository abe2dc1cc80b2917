"""Metrics of a result matrix against their formulas, cell by cell, and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from result_matrices import AVERAGES, METRICS, metric, plain_rows
from scipy.stats import linregress

from ttt.metrics.matrix import NOISE, along, needed_cell


def spelled_out(name, a, at, rows, tasks):
    """Return a metric by its formula, where a(i, j) reads a cell and P is the last of `rows`."""
    p, old = rows[-1], [j for j in tasks if at[j] < rows[-1]]

    def mean(values):
        values = list(values)
        return sum(values) / len(values) if values else math.nan

    formulas = {
        "avg_before": lambda: mean(a(0, j) for j in tasks),
        "avg_final": lambda: mean(a(p, j) for j in tasks),
        "avg_learning": lambda: mean(a(at[j], j) for j in tasks),
        "avg_incremental": lambda: mean(mean(a(i, j) for j in tasks if at[j] <= i) for i in rows[1:]),
        "avg_triangle": lambda: mean(a(i, j) for j in tasks for i in rows if i >= at[j]),
        "forgetting_max_seen": lambda: mean(max(a(i, j) for i in range(at[j], p)) - a(p, j) for j in old),
        "forgetting_max_rows": lambda: mean(max(a(i, j) for i in range(1, p)) - a(p, j) for j in old),
        "forgetting_max_last": lambda: mean(max(a(i, j) for i in range(at[j], p + 1)) - a(p, j) for j in old),
        "forgetting_at_learn": lambda: mean(a(at[j], j) - a(p, j) for j in old),
        "bwt_gem": lambda: mean(a(p, j) - a(at[j], j) for j in old),
        "bwt_pairs": lambda: mean(a(i, j) - a(at[j], j) for j in tasks for i in rows if i > at[j]),
        "fwt_b_row0": lambda: mean(a(at[j] - 1, j) - a(0, j) for j in tasks if at[j] > 1),
        "fwt_pairs_raw": lambda: mean(a(i, j) for j in tasks for i in rows if 1 <= i < at[j]),
        "gained": lambda: mean(a(at[j], j) - a(0, j) for j in tasks),
        "kept": lambda: mean(a(p, j) - a(0, j) for j in tasks),
    }
    return formulas[name]()


# Slopes, and a ratio, which is NaN for a small denominator too.
SLOPES = ("learning_slope", "gained_slope")
OTHERS = (*SLOPES, "forgetting_per_gained")
SPELLED = [name for name in METRICS if name not in OTHERS]


@st.composite
def streams(draw):
    """Return the matrix and the rows of learning of a stream that comes back to some of its tasks."""
    count = draw(st.integers(1, 5))
    again = draw(st.lists(st.integers(0, count - 1), max_size=3))
    taught = draw(st.permutations([*range(count), *again]))
    at = np.array([taught.index(j) + 1 for j in range(count)])
    return draw(arrays(np.float64, (len(taught) + 1, count), elements=st.floats(-5, 5))), at


@given(streams(), st.sampled_from(SPELLED))
def test_every_metric_is_its_formula_also_where_tasks_come_again(stream, name):
    a, at = stream
    value = spelled_out(name, lambda i, j: a[i, j], at, range(len(a)), range(len(at)))
    assert METRICS[name](a, at) == pytest.approx(value, nan_ok=True, abs=1e-9)


@given(streams(), st.sampled_from(SPELLED), st.data())
def test_a_metric_is_nan_just_where_it_needs_an_unmeasured_cell(stream, name, data):
    """The needed cells are those that the formula reads."""
    a, at = stream
    read = set()
    spelled_out(name, lambda i, j: read.add((i, j)) or a[i, j], at, range(len(a)), range(len(at)))
    holes = a.copy()
    cells = [(i, j) for i in range(len(a)) for j in range(len(at))]
    missing = data.draw(st.sets(st.sampled_from(cells), min_size=1))
    holes[tuple(np.array(sorted(missing)).T)] = np.nan
    if not read:
        assert math.isnan(METRICS[name](holes, at))
        assert needed_cell(METRICS[name], holes, at) is None
    elif read & missing:
        assert math.isnan(METRICS[name](holes, at))
        assert needed_cell(METRICS[name], holes, at) == min(read & missing)
    else:
        assert METRICS[name](holes, at) == METRICS[name](a, at)


@given(streams())
def test_what_was_forgotten_of_what_was_gained(stream):
    a, at = stream
    old = [j for j in range(len(at)) if at[j] < len(a) - 1]
    gain = sum(a[at[j], j] - a[0, j] for j in old) / max(len(old), 1)
    lost = sum(a[at[j], j] - a[-1, j] for j in old) / max(len(old), 1)
    expected = lost / gain if gain > NOISE else math.nan
    assert METRICS["forgetting_per_gained"](a, at) == pytest.approx(expected, nan_ok=True, rel=1e-6)


@given(streams())
def test_the_slope_of_what_is_gained_is_free_of_how_hard_tasks_are(stream):
    a, at = stream
    order = np.argsort(np.argsort(at, kind="stable"), kind="stable")
    gains = np.array([a[at[j], j] - a[0, j] for j in range(len(at))])
    expected = linregress(order, gains).slope if len(at) > 2 else math.nan
    assert METRICS["gained_slope"](a, at) == pytest.approx(expected, nan_ok=True, abs=1e-9)
    harder = a - np.arange(len(at)) * 3.0
    assert METRICS["gained_slope"](harder, at) == pytest.approx(METRICS["gained_slope"](a, at), nan_ok=True, abs=1e-9)


MATRICES = st.integers(2, 6).flatmap(lambda j: arrays(np.float64, (j + 1, j), elements=st.floats(-5, 5)))


@given(MATRICES)
def test_identities(a):
    assert metric("forgetting_at_learn", a) == pytest.approx(-metric("bwt_gem", a))
    assert metric("forgetting_max_seen", a) >= metric("forgetting_at_learn", a) - 1e-12
    assert metric("forgetting_max_rows", a) >= metric("forgetting_max_seen", a) - 1e-12
    assert metric("forgetting_max_last", a) >= max(metric("forgetting_max_seen", a) - 1e-12, 0)


@given(MATRICES)
def test_incremental_and_pairwise_metrics_are_averages_along_the_stream(a):
    at = plain_rows(a.shape[1])
    assert metric("avg_incremental", a) == pytest.approx(np.mean(along(METRICS["avg_final"], a, at)[1:]), abs=1e-9)
    # Row k has k - 1 old tasks, and as many pairs.
    bwt = along(METRICS["bwt_gem"], a, at)[2:]
    assert metric("bwt_pairs", a) == pytest.approx(np.average(bwt, weights=range(1, a.shape[1])), abs=1e-9)


@given(MATRICES, st.floats(-3, 3))
def test_a_constant_changes_no_difference(a, constant):
    # At the edge of the noise a ratio is defined or not by a rounding error.
    for name in (*SPELLED, *SLOPES):
        shift = constant if name in AVERAGES else 0
        assert metric(name, a + constant) == pytest.approx(metric(name, a) + shift, abs=1e-9, nan_ok=True), name


def test_a_constant_matrix_forgets_nothing():
    for name in (*SPELLED, *SLOPES):
        assert metric(name, np.full((5, 4), 0.7)) == pytest.approx(0.7 if name in AVERAGES else 0), name
