"""Metrics of anytime evaluation on curves drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttt.metrics.curves import (
    Curves,
    Length,
    Savings,
    gap_depth,
    gap_lasting,
    gap_length,
    lca,
    mean_gap,
    mean_seen,
    min_acc,
    old_pairs,
    savings,
    to_criterion,
    wc_acc,
    windowed_forgetting,
    windowed_plasticity,
)

# Three tasks of 40 steps, measured every 10. In phase 2 task 1 dips and recovers all but 0.1; in
# phase 3 task 2 falls and does not recover.
TIMES = np.arange(0.0, 121, 10)
FIRST = [0.1, 0.5, 0.7, 0.8, 0.9, 0.3, 0.5, 0.7, 0.8, 0.4, 0.6, 0.8, 0.8]
SECOND = [0.2, 0.2, 0.2, 0.2, 0.2, 0.6, 0.8, 0.9, 0.9, 0.7, 0.6, 0.5, 0.4]
THIRD = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.7, 0.8, 0.9, 1.0]
CURVES = Curves(
    times=TIMES,
    values=np.array([FIRST, SECOND, THIRD]).T,
    ends=np.array([0.0, 40, 80, 120]),
    taught=(0, 1, 2),
)


def hole(curves, *, n, task):
    values = curves.values.copy()
    values[curves.times == n, task] = np.nan
    return Curves(curves.times, values, curves.ends, curves.taught)


def test_worst_case_accuracy_by_hand():
    assert math.isnan(min_acc(CURVES, n=40))
    assert wc_acc(CURVES, n=30) == 0.8
    assert min_acc(CURVES, n=50) == 0.3
    # The dip is over, but counts.
    assert min_acc(CURVES, n=80) == 0.3
    assert wc_acc(CURVES, n=80) == pytest.approx((0.9 + 0.3) / 2)
    # Task 2 is old from phase 3 on, and its minimum is over phase 3 only.
    assert min_acc(CURVES, n=100) == pytest.approx((0.3 + 0.6) / 2)
    assert wc_acc(CURVES, n=120) == pytest.approx((1.0 + 0.3 + 0.4) / 3)
    with pytest.raises(AssertionError, match="n = 0"):
        min_acc(CURVES, n=0)


def test_the_stability_gap_by_hand():
    assert gap_depth(CURVES, phase=2, task=0) == pytest.approx(0.9 - 0.3)
    assert gap_lasting(CURVES, phase=2, task=0) == pytest.approx(0.9 - 0.8)
    assert gap_depth(CURVES, phase=3, task=0) == pytest.approx(0.8 - 0.4)
    assert gap_lasting(CURVES, phase=3, task=0) == 0
    assert list(old_pairs(CURVES)) == [(2, 0), (3, 0), (3, 1)]
    assert mean_gap(CURVES, gap_depth) == pytest.approx((0.6 + 0.4 + 0.5) / 3)
    assert mean_gap(CURVES, gap_lasting) == pytest.approx((0.1 + 0.0 + 0.5) / 3)
    with pytest.raises(AssertionError, match=r"task 1 .* phase 2"):
        gap_depth(CURVES, phase=2, task=1)


def test_the_length_of_the_gap_says_whether_its_end_was_seen():
    # Within 0.11 of its value again at step 80, 40 steps after the phase began.
    assert gap_length(CURVES, phase=2, task=0, tolerance=0.11) == Length(40, censored=False)
    assert gap_length(CURVES, phase=2, task=0) == Length(40, censored=True)
    assert gap_length(CURVES, phase=3, task=0) == Length(30, censored=False)
    assert gap_length(CURVES, phase=3, task=1, tolerance=0.45) == Length(40, censored=True)
    assert gap_length(CURVES, phase=3, task=1, tolerance=0.5) == Length(0, censored=False)


def test_windows_by_hand():
    # Falls of neighbours: 0.6 (task 1, step 40 to 50), 0.2 (task 2, at 90), and task 3 rises by 0.1
    # at least.
    assert windowed_forgetting(CURVES, window=2) == pytest.approx((0.6 + 0.2 - 0.1) / 3)
    assert windowed_plasticity(CURVES, window=2) == pytest.approx((0.4 + 0.4 + 0.4) / 3)
    # Within three evaluations task 2 falls by 0.3 (80 to 100), and rises by 0.6 from its zero-shot
    # value.
    assert windowed_forgetting(CURVES, window=3) == pytest.approx((0.6 + 0.3 - 0.1) / 3)
    assert windowed_plasticity(CURVES, window=3) == pytest.approx((0.6 + 0.6 + 0.5) / 3)
    assert windowed_forgetting(CURVES, window=99) == pytest.approx((0.6 + 0.5 - 0.1) / 3)
    with pytest.raises(AssertionError, match="window of one"):
        windowed_forgetting(CURVES, window=1)


def test_a_rise_out_of_a_dip_is_a_rise():
    """Public code starts at running maxima only, and sees 0.1 here."""
    curves = Curves(np.arange(4.0), np.array([[0.8], [0.2], [0.9], [0.9]]), np.array([0.0, 3]), (0,))
    assert windowed_plasticity(curves, window=4) == pytest.approx(0.7)
    assert windowed_forgetting(curves, window=4) == pytest.approx(0.6)


def test_the_learning_curve_area_by_hand():
    zero_shot, first = (0.1 + 0.2 + 0.3) / 3, (0.5 + 0.6 + 0.7) / 3
    assert lca(CURVES, beta=0) == pytest.approx(zero_shot)
    assert lca(CURVES, beta=1, every=10) == pytest.approx((zero_shot + first) / 2)
    # Nothing was measured one step after the start; five evaluations reach beyond the phase.
    assert math.isnan(lca(CURVES, beta=1))
    assert not math.isnan(lca(CURVES, beta=4, every=10))
    assert math.isnan(lca(CURVES, beta=5, every=10))


def test_steps_to_criterion_and_savings_by_hand():
    steps = np.array([0.0, 10, 20, 30])
    first = to_criterion(steps, np.array([0.1, 0.5, 0.7, 0.8]), criterion=0.7)
    again = to_criterion(steps + 500, np.array([0.4, 0.7, 0.8, 0.8]), criterion=0.7)
    never = to_criterion(steps, np.array([0.4, 0.5, 0.6, 0.6]), criterion=0.7)
    at_once = to_criterion(steps, np.array([0.9, 0.5, 0.6, 0.6]), criterion=0.7)
    assert (first, again) == (Length(20, censored=False), Length(10, censored=False))
    assert (never, at_once) == (Length(30, censored=True), Length(0, censored=False))
    assert savings(first, again) == Savings(0.5, censored=False)
    assert savings(first, at_once) == Savings(1.0, censored=False)
    # At least 30 steps instead of 20: at most -0.5 saved.
    assert savings(first, never) == Savings(-0.5, censored=True)
    for undefined in (savings(never, first), savings(at_once, first)):
        assert math.isnan(undefined.value)
    assert mean_seen([first, again, never]) == pytest.approx((15, 1 / 3))
    assert mean_seen([never]) == pytest.approx((math.nan, 1), nan_ok=True)
    assert all(map(math.isnan, mean_seen([])))


def test_oriented_losses_are_curves_too():
    """Bits 4 -> 2 when learned, 5 right after the next task begins, 3 at its end."""
    bits = np.array([[4.0, 6], [2, 6], [5, 3], [3, 2]])
    curves = Curves(np.array([0.0, 20, 30, 40]), -bits, np.array([0.0, 20, 40]), (0, 1))
    assert gap_depth(curves, phase=2, task=0) == 3
    assert gap_lasting(curves, phase=2, task=0) == 1
    assert min_acc(curves, n=40) == -5
    assert wc_acc(curves, n=40) == -3.5
    assert windowed_forgetting(curves, window=2) == (3 + -1) / 2


def test_one_task_has_no_old_ones():
    curves = Curves(np.array([0.0, 10]), np.array([[0.1], [0.8]]), np.array([0.0, 10]), (0,))
    assert wc_acc(curves, n=10) == 0.8
    assert windowed_plasticity(curves, window=2) == pytest.approx(0.7)
    assert lca(curves, beta=1, every=10) == pytest.approx(0.45)
    for undefined in (min_acc(curves, n=10), mean_gap(curves, gap_depth)):
        assert math.isnan(undefined)


def test_a_task_that_comes_again_is_not_old_while_it_is_taught():
    """Tasks 1, 2, 1: in phase 3 only task 2 is old, and task 1 keeps the minimum since it was first
    learned."""
    curves = Curves(TIMES, CURVES.values[:, :2], CURVES.ends, (0, 1, 0))
    assert list(old_pairs(curves)) == [(2, 0), (3, 1)]
    assert min_acc(curves, n=120) == 0.4
    assert wc_acc(curves, n=120) == pytest.approx((0.8 + 0.4) / 2)
    assert lca(curves, beta=0) == pytest.approx((0.1 + 0.2) / 2)
    again = Curves(TIMES, CURVES.values[:, :2], np.array([0.0, 40, 80, 100, 120]), (0, 1, 0, 1))
    assert min_acc(again, n=120) == 0.3


def test_a_metric_is_nan_only_where_it_needs_an_unmeasured_value():
    holes = hole(CURVES, n=60, task=0)
    for value in (
        gap_depth(holes, phase=2, task=0),
        gap_length(holes, phase=2, task=0).value,
        min_acc(holes, n=80),
        wc_acc(holes, n=80),
        windowed_forgetting(holes, window=2),
        windowed_plasticity(holes, window=2),
        mean_gap(holes, gap_depth),
    ):
        assert math.isnan(value)
    assert min_acc(holes, n=50) == 0.3
    assert gap_lasting(holes, phase=2, task=0) == pytest.approx(0.1)
    assert lca(holes, beta=4, every=10) == lca(CURVES, beta=4, every=10)
    # A task need not be measured before it is first taught.
    assert windowed_forgetting(hole(CURVES, n=70, task=2), window=2) == windowed_forgetting(CURVES, window=2)
    assert math.isnan(gap_depth(hole(CURVES, n=40, task=0), phase=2, task=0))
    assert math.isnan(gap_length(hole(CURVES, n=40, task=0), phase=2, task=0).value)
    steps = np.array([0.0, 10, 20])
    assert to_criterion(steps, np.array([0.1, 0.7, math.nan]), criterion=0.7) == Length(10, censored=False)
    for values in ([0.1, math.nan, 0.7], [0.1, 0.2, math.nan], [math.nan, 0.7, 0.8]):
        assert math.isnan(to_criterion(steps, np.array(values), criterion=0.7).value)
    assert math.isnan(to_criterion(steps[:0], steps[:0], criterion=0.7).value)


@st.composite
def any_curves(draw):
    tasks, every = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    times = np.arange(0.0, tasks * every + 1)
    values = draw(arrays(np.float64, (len(times), tasks), elements=st.floats(-5, 5)))
    return Curves(times, values, times[::every], tuple(range(tasks)))


@given(any_curves())
def test_identities(curves):
    last = curves.times[-1]
    for phase, task in old_pairs(curves):
        where = {"phase": phase, "task": task}
        # The end of a phase is not below its minimum.
        assert gap_depth(curves, **where) >= gap_lasting(curves, **where)
        length = gap_length(curves, **where)
        assert 0 <= length.value <= curves.ends[phase] - curves.ends[phase - 1]
        assert length.censored <= (gap_lasting(curves, **where) > 0)
        assert (length == Length(0, censored=False)) == (gap_depth(curves, **where) <= 0)
    final = curves.values[-1]
    assert min_acc(curves, n=last) <= final[:-1].mean() + 1e-12
    assert wc_acc(curves, n=last) <= final.mean() + 1e-12
    for window in range(2, len(curves.times)):
        assert windowed_forgetting(curves, window=window) <= windowed_forgetting(curves, window=window + 1)
        assert windowed_plasticity(curves, window=window) <= windowed_plasticity(curves, window=window + 1)


@given(any_curves(), st.floats(-3, 3))
def test_a_constant_changes_no_difference_and_a_sign_swaps_the_windows(curves, constant):
    moved = Curves(curves.times, curves.values + constant, curves.ends, curves.taught)
    turned = Curves(curves.times, -curves.values, curves.ends, curves.taught)
    for gap in (gap_depth, gap_lasting):
        assert mean_gap(moved, gap) == pytest.approx(mean_gap(curves, gap), abs=1e-9)
    assert min_acc(moved, n=curves.times[-1]) == pytest.approx(min_acc(curves, n=curves.times[-1]) + constant, abs=1e-9)
    assert lca(moved, beta=1) == pytest.approx(lca(curves, beta=1) + constant, abs=1e-9)
    assert windowed_forgetting(turned, window=3) == pytest.approx(windowed_plasticity(curves, window=3), abs=1e-9)
    # Twice as many steps between two evaluations: every length doubles.
    slower = Curves(2 * curves.times, curves.values, 2 * curves.ends, curves.taught)
    for phase, task in old_pairs(curves):
        length = gap_length(curves, phase=phase, task=task)
        assert gap_length(slower, phase=phase, task=task) == Length(2 * length.value, length.censored)


@given(st.integers(2, 8).flatmap(lambda n: arrays(np.float64, n, elements=st.floats(-5, 5))), st.integers(2, 9))
def test_windows_spelled_out(values, window):
    """Every pair m < n of one task whose window holds both."""
    times = np.arange(float(len(values)))
    curves = Curves(times, values[:, None], times[[0, -1]], (0,))
    pairs = [(m, n) for m in range(len(values)) for n in range(m + 1, len(values)) if n - m < window]
    assert windowed_forgetting(curves, window=window) == max(values[m] - values[n] for m, n in pairs)
    assert windowed_plasticity(curves, window=window) == max(values[n] - values[m] for m, n in pairs)
