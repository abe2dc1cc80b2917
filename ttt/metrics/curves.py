"""Metrics of anytime evaluation: what happens to old and new tasks between the rows of R.

a_j(n): oriented value (higher is better) on task j at time n; phase k is n_{k-1} < n <= n_k. The
caller chooses the unit of n (batches, inner steps, tokens), and every length has that unit.
A minimum over sparse points is only an upper bound of the true minimum, so report how densely the
curve was measured. NaN = not measured. A metric that needs an unmeasured value is NaN, and so is
one that is undefined. Source of min_acc, wc_acc and windowed_...: De Lange et al. 2023 (arXiv
2205.13452), as in their paper and not as in their code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttt.metrics.matrix import Matrix

Vector = NDArray[np.float64]
NAN = float("nan")


class Length(NamedTuple):
    """A length in the unit of n; `censored`: its end was not seen, it is at least `value`."""

    value: float
    censored: bool


@dataclass(frozen=True)
class Curves:
    """`values[m, j]` = a_j(times[m]); `ends[k]` = n_k from k = 0; `taught[k - 1]`: task of phase k.

    Times ascend. Tasks count from 0 and phases from 1, so phase k ends in row k of R. A stream may
    come back to a task: the task is learned in the first phase that teaches it, and old in every
    later phase that teaches another one.
    """

    times: Vector
    values: Matrix
    ends: Vector
    taught: Sequence[int]

    def __post_init__(self) -> None:
        assert self.values.ndim == 2
        assert len(self.values) == len(self.times)
        assert len(self.ends) == len(self.taught) + 1
        assert (np.diff(self.times) > 0).all()
        assert (np.diff(self.ends) > 0).all()

    def at(self, n: float, *, task: int) -> float:
        """Return a_j(n); NaN where nothing was measured at exactly n."""
        rows = np.flatnonzero(self.times == n)
        return float(self.values[rows[0], task]) if len(rows) else NAN

    def between(self, start: float, stop: float) -> NDArray[np.bool_]:
        """Return which of the times lie in start < n <= stop."""
        return (self.times > start) & (self.times <= stop)

    def phase_of(self, n: float) -> int:
        """Return the k with n_{k-1} < n <= n_k."""
        assert self.ends[0] < n <= self.ends[-1], f"no phase holds n = {n}"
        # searchsorted looks left by default: the end of a phase still belongs to that phase.
        return int(np.searchsorted(self.ends, n))

    def learned_in(self) -> dict[int, int]:
        """Return task -> the first phase that teaches it."""
        first: dict[int, int] = {}
        for phase, task in enumerate(self.taught, start=1):
            # Later phases that teach the task again only refresh it.
            first.setdefault(task, phase)
        return first

    def old(self, *, phase: int) -> list[int]:
        """Return the tasks learned in an earlier phase, without the one that this phase teaches."""
        return [j for j, first in self.learned_in().items() if first < phase and j != self.taught[phase - 1]]


def min_acc(curves: Curves, *, n: float) -> float:
    """mean over old j of min_{n_j < m <= n} a_j(m): average minimum accuracy.

    n_j: end of task j's first phase. NaN in phase 1. It rises only where a new task joins the mean.
    """
    first = curves.learned_in()
    lowest = [_lowest(curves, curves.ends[first[j]], n, task=j) for j in curves.old(phase=curves.phase_of(n))]
    return _mean(lowest)


def wc_acc(curves: Curves, *, n: float) -> float:
    """(1/k) a_k(n) + (1 - 1/k) min_acc(n): worst-case accuracy.

    k: the number of tasks seen, the current one last. In the first phase it is a_1(n).
    """
    phase = curves.phase_of(n)
    now = curves.at(n, task=curves.taught[phase - 1])
    seen = len(curves.old(phase=phase)) + 1
    return now / seen + (1 - 1 / seen) * min_acc(curves, n=n) if seen > 1 else now


Gap = Callable[..., float]


def gap_depth(curves: Curves, *, phase: int, task: int) -> float:
    """a_j(n_{k-1}) - min_{n_{k-1} < n <= n_k} a_j(n): how far an old task falls within phase k.

    The paper defines no single number for this stability gap; depth, lasting and length are ours.
    """
    start, stop = _phase(curves, phase, task)
    return curves.at(start, task=task) - _lowest(curves, start, stop, task=task)


def gap_lasting(curves: Curves, *, phase: int, task: int) -> float:
    """a_j(n_{k-1}) - a_j(n_k): the part of the fall that has not recovered when phase k ends."""
    start, stop = _phase(curves, phase, task)
    return curves.at(start, task=task) - curves.at(stop, task=task)


def gap_length(curves: Curves, *, phase: int, task: int, tolerance: float = 0.0) -> Length:
    """First n after the (first) minimum with a_j(n) >= a_j(n_{k-1}) - tolerance, minus n_{k-1}.

    Censored at n_k where the task does not recover; 0 where it never falls beyond `tolerance`.
    """
    start, stop = _phase(curves, phase, task)
    inside = curves.between(start, stop)
    n, a = curves.times[inside], curves.values[inside, task]
    enough = curves.at(start, task=task) - tolerance
    if np.isnan([enough, *a]).any() or not len(a):
        return Length(NAN, False)
    lowest = int(a.argmin())
    if a[lowest] >= enough:
        return Length(0.0, False)
    # From the minimum on: an earlier return would belong to a fall that was not the deepest.
    back = np.flatnonzero(a[lowest:] >= enough)
    return Length(float(n[lowest + back[0]] - start), False) if len(back) else Length(float(stop - start), True)


def mean_gap(curves: Curves, gap: Gap) -> float:
    """Return the mean of `gap` over all phases and their old tasks; NaN without an old task."""
    return _mean([gap(curves, phase=phase, task=task) for phase, task in old_pairs(curves)])


def old_pairs(curves: Curves) -> Iterator[tuple[int, int]]:
    """Yield all pairs (phase, old task)."""
    return ((phase, task) for phase in range(1, len(curves.ends)) for task in curves.old(phase=phase))


def windowed_forgetting(curves: Curves, *, window: int) -> float:
    """mean over tasks of max (a_j(m) - a_j(n)) over m < n within `window` consecutive evaluations.

    This is the steepest fall of each task since the start of its first phase (n_{k-1} included). It
    is negative for a task that only ever rises, where public code stops at 0.
    """
    return _mean([_steepest_rise(-a, window) for a in _since_taught(curves)])


def windowed_plasticity(curves: Curves, *, window: int) -> float:
    """mean over tasks of max (a_j(n) - a_j(m)) over m < n within `window` consecutive evaluations.

    This is the steepest rise, over the same times; also out of a dip, which public code misses.
    """
    return _mean([_steepest_rise(a, window) for a in _since_taught(curves)])


def lca(curves: Curves, *, beta: int, every: float = 1) -> float:
    """1/(beta + 1) sum_{b=0..beta} mean_j a_j(n_{k-1} + b * every): learning-curve area.

    k: the first phase of j; b = 0 is zero-shot. Source: A-GEM (Chaudhry et al. 2019), where b
    counts batches. NaN where a point was not measured or lies beyond the phase.
    """
    assert beta >= 0
    # One mean serves for both sums, since every task has the same number of points.
    points = []
    for task, phase in curves.learned_in().items():
        start, stop = curves.ends[phase - 1 : phase + 1]
        shots = [float(start + b * every) for b in range(beta + 1)]
        points += [curves.at(n, task=task) if n <= stop else NAN for n in shots]
    return _mean(points)


def to_criterion(times: Vector, values: Vector, *, criterion: float) -> Length:
    """Return the length from times[0], where learning starts, to the first a(n) >= criterion.

    0 where the criterion is met before learning. Censored at the last time where it is never met.
    NaN where a value up to that point was not measured.
    """
    assert len(times) == len(values)
    met = np.flatnonzero(values >= criterion)
    stop = int(met[0]) if len(met) else len(values) - 1
    if not len(values) or np.isnan(values[: stop + 1]).any():
        return Length(NAN, False)
    return Length(float(times[stop] - times[0]), not len(met))


class Savings(NamedTuple):
    """A share; `censored`: the criterion was not met again, the true value is at most `value`."""

    value: float
    censored: bool


def savings(first: Length, again: Length) -> Savings:
    """1 - N_again / N_first (Ebbinghaus 1885): the share of the way that relearning saves.

    1: nothing to relearn; 0: as long as at first; below 0: longer. Both lengths come from
    to_criterion with the same criterion, `again` on a later copy of the learner. In batches learned
    it is savings_slow; in tokens read with the slow weights locked, savings_fast. NaN where the
    criterion was not met at first, or was met before learning (N_first = 0).
    """
    if first.censored or not first.value > 0:
        return Savings(NAN, False)
    return Savings(1 - again.value / first.value, again.censored)


def mean_seen(lengths: Sequence[Length | Savings]) -> tuple[float, float]:
    """Return the mean of the uncensored lengths, and the share of censored ones.

    The mean says little where that share is large. It is NaN where all are censored, or one is NaN.
    """
    values = [length.value for length in lengths if not length.censored]
    return _mean(values), _mean([float(length.censored) for length in lengths])


def _phase(curves: Curves, phase: int, task: int) -> tuple[float, float]:
    assert task in curves.old(phase=phase), f"task {task} is not old in phase {phase}"
    return float(curves.ends[phase - 1]), float(curves.ends[phase])


def _lowest(curves: Curves, start: float, stop: float, *, task: int) -> float:
    inside = curves.values[curves.between(start, stop), task]
    return float(inside.min()) if len(inside) else NAN


def _since_taught(curves: Curves) -> Iterator[Vector]:
    for task, phase in curves.learned_in().items():
        yield curves.values[curves.times >= curves.ends[phase - 1], task]


def _steepest_rise(values: Vector, window: int) -> float:
    assert window > 1, "a window of one evaluation holds no change"
    # A pair of evaluations `lag` apart shares a window of lag + 1 evaluations.
    rises = [values[lag:] - values[:-lag] for lag in range(1, min(window, len(values)))]
    return float(np.concatenate(rises).max()) if rises else NAN


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else NAN
