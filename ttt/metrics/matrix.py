"""Continual-learning metrics as pure functions of the result matrix of one mode and one quantity.

A[i, j]: oriented value (higher is better) on task j after phase i of P; row 0 is before the stream, so A has
P + 1 rows and J columns. `at[j]` = l_j: the row after the first phase that teaches task j; in a plain stream
P = J and l_j = j + 1 (columns count from 0). Docstrings write A[j, j] for "just learned", A[l_j, j].
Forgetting and backward transfer are means over the tasks that are learned before the last row.
NaN = not measured; a metric that needs such a cell is NaN, and so is one that is undefined here. Variants
differ between papers and codes: a metric is called by its variant, defined in its docstring, and never bare.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]
Metric = Callable[[Matrix, Rows], float]


def plain_rows(tasks: int) -> Rows:
    """l_j where each task is learned once, in order."""
    return np.arange(1, tasks + 1)


def learned(a: Matrix, at: Rows) -> Matrix:
    """A[j, j] of the papers: each task right after it was first learned."""
    return a[at, np.arange(a.shape[1])]


def avg_before(a: Matrix, at: Rows) -> float:
    """1/J sum_j A[0, j]: before the stream. A learner that ends below it had better not learned."""
    return float(a[0].mean())


def avg_final(a: Matrix, at: Rows) -> float:
    """1/J sum_j A[P, j]: ACC of GEM (Lopez-Paz & Ranzato 2017)."""
    return float(a[-1].mean())


def avg_learning(a: Matrix, at: Rows) -> float:
    """1/J sum_j A[j, j]: learning accuracy (Riemer et al. 2019)."""
    return float(learned(a, at).mean())


def forgetting_max_seen(a: Matrix, at: Rows) -> float:
    """mean over old j of (max_{l_j<=i<P} A[i, j] - A[P, j]); negative if later training helps."""
    last = len(a) - 1
    return _mean([a[at[j] : last, j].max() - a[last, j] for j in _old(a, at)])


def forgetting_at_learn(a: Matrix, at: Rows) -> float:
    """mean over old j of (A[j, j] - A[P, j]) = -bwt_gem."""
    return -bwt_gem(a, at)


def bwt_gem(a: Matrix, at: Rows) -> float:
    """mean over old j of (A[P, j] - A[j, j]): backward transfer of GEM."""
    return _mean([a[-1, j] - a[at[j], j] for j in _old(a, at)])


def fwt_b_row0(a: Matrix, at: Rows) -> float:
    """mean over all j but those of the first phase of (A[l_j - 1, j] - A[0, j]): forward transfer of GEM with
    the row before the stream as b."""
    return _mean([a[at[j] - 1, j] - a[0, j] for j in range(a.shape[1]) if at[j] > 1])


def learning_slope(a: Matrix, at: Rows) -> float:
    """Least-squares slope of A[j, j] over the order of learning, per task; below zero plasticity is lost.

    Means something where tasks are exchangeable (a permutation, random labels). Undefined below three tasks.
    """
    if a.shape[1] < 3:
        return float("nan")
    order = np.argsort(np.argsort(at, kind="stable"), kind="stable")
    return float(np.polyfit(order, learned(a, at), 1)[0])


def along(metric: Metric, a: Matrix, at: Rows) -> list[float]:
    """The metric as it stands after each phase, row by row: over the tasks learned by then. NaN before the first."""
    values = []
    for row in range(len(a)):
        known = at <= row
        values.append(metric(a[: row + 1, known], at[known]) if known.any() else float("nan"))
    return values


def _old(a: Matrix, at: Rows) -> list[int]:
    return [j for j in range(a.shape[1]) if at[j] < len(a) - 1]


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


METRICS: dict[str, Metric] = {
    "avg_before": avg_before,
    "avg_final": avg_final,
    "avg_learning": avg_learning,
    "forgetting_max_seen": forgetting_max_seen,
    "forgetting_at_learn": forgetting_at_learn,
    "bwt_gem": bwt_gem,
    "fwt_b_row0": fwt_b_row0,
    "learning_slope": learning_slope,
}
# These are reported in the unit of the quantity (bits stay bits), the others as gain or harm.
AVERAGES = ("avg_before", "avg_final", "avg_learning")


def why_undefined(a: Matrix) -> str:
    """The reason why a metric of this matrix is NaN."""
    if np.isnan(a).any():
        row, column = np.argwhere(np.isnan(a))[0]
        return f"task {column + 1} was not measured in row {row} (see eval.every)"
    return f"undefined for {a.shape[1]} task"
