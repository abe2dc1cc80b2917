"""Continual-learning metrics as pure functions of the result matrix of one mode and one quantity.

A[i, j]: oriented value (higher is better) on task j after learning task i; row 0 is before the stream, so
A has J + 1 rows and J columns. Just learned: A[j + 1, j]. NaN = not measured; a metric that needs such a
cell is NaN, and so is one that is undefined at this J. Variants differ between papers and codes: a metric
is called by its variant, defined in its docstring, and never bare.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Metric = Callable[[Matrix], float]


def learned(a: Matrix) -> Matrix:
    """A[j, j] of the papers: each task right after it was learned."""
    return np.diagonal(a, -1)


def avg_before(a: Matrix) -> float:
    """1/J sum_j A[0, j]: before the stream. A learner that ends below it had better not learned."""
    return float(a[0].mean())


def avg_final(a: Matrix) -> float:
    """1/J sum_j A[J, j]: ACC of GEM (Lopez-Paz & Ranzato 2017)."""
    return float(a[-1].mean())


def avg_learning(a: Matrix) -> float:
    """1/J sum_j A[j, j]: learning accuracy (Riemer et al. 2019)."""
    return float(learned(a).mean())


def forgetting_max_seen(a: Matrix) -> float:
    """1/(J-1) sum_{j<J} (max_{j<=i<J} A[i, j] - A[J, j]); negative if later training helps."""
    tasks = a.shape[1]
    if tasks < 2:
        return float("nan")
    return float(np.mean([a[j + 1 : tasks, j].max() - a[tasks, j] for j in range(tasks - 1)]))


def forgetting_at_learn(a: Matrix) -> float:
    """1/(J-1) sum_{j<J} (A[j, j] - A[J, j]) = -bwt_gem."""
    return -bwt_gem(a)


def bwt_gem(a: Matrix) -> float:
    """1/(J-1) sum_{j<J} (A[J, j] - A[j, j]): backward transfer of GEM."""
    if a.shape[1] < 2:
        return float("nan")
    return float((a[-1, :-1] - learned(a)[:-1]).mean())


def fwt_b_row0(a: Matrix) -> float:
    """1/(J-1) sum_{j>1} (A[j-1, j] - A[0, j]): forward transfer of GEM with the row before the stream as b."""
    if a.shape[1] < 2:
        return float("nan")
    return float((np.diagonal(a)[1:] - a[0, 1:]).mean())


METRICS: dict[str, Metric] = {
    "avg_before": avg_before,
    "avg_final": avg_final,
    "avg_learning": avg_learning,
    "forgetting_max_seen": forgetting_max_seen,
    "forgetting_at_learn": forgetting_at_learn,
    "bwt_gem": bwt_gem,
    "fwt_b_row0": fwt_b_row0,
}
# These are reported in the unit of the quantity (bits stay bits), the others as gain or harm.
AVERAGES = ("avg_before", "avg_final", "avg_learning")


def why_undefined(a: Matrix) -> str:
    """The reason why a metric of this matrix is NaN."""
    if np.isnan(a).any():
        row, column = np.argwhere(np.isnan(a))[0]
        return f"task {column + 1} was not measured after {row} tasks"
    return f"undefined for {a.shape[1]} task"
