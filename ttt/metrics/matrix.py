"""Continual-learning metrics as pure functions of the result matrix of one mode and one quantity.

A[i, j]: oriented value (higher is better) on task j after phase i of P. Row 0 is before the stream,
so A has P + 1 rows and J columns. `at[j]` = l_j: the row after the first phase that teaches task j;
where each task is taught once, P = J and l_j = j + 1 (columns count from 0). Docstrings write
A[j, j] for A[l_j, j], the value right after learning. Old tasks are those learned before the last
row. NaN = not measured; a metric that needs an unmeasured cell is NaN, and so is one that is
undefined for the stream. Papers and codes differ in their definitions: each name is one variant.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]
Metric = Callable[[Matrix, Rows], float]
# A difference this small (in bits, or as a share of answers) is noise, and no scale to divide by.
NOISE = 0.01


def learned(a: Matrix, at: Rows) -> Matrix:
    """Return A[j, j], the value of each task right after it was first learned."""
    return a[at, np.arange(a.shape[1])]


def zero_shot(a: Matrix, at: Rows) -> Matrix:
    """Return A[j - 1, j], the value of each task right before it is first learned."""
    # Row l_j - 1 always exists, since phases count from 1.
    return a[at - 1, np.arange(a.shape[1])]


def avg_before(a: Matrix, at: Rows) -> float:
    """1/J sum_j A[0, j]: the average before the stream.

    A learner that ends below it was harmed by learning.
    """
    return float(a[0].mean())


def avg_final(a: Matrix, at: Rows) -> float:
    """1/J sum_j A[P, j]: ACC of GEM (Lopez-Paz & Ranzato 2017)."""
    return float(a[-1].mean())


def avg_learning(a: Matrix, at: Rows) -> float:
    """1/J sum_j A[j, j]: learning accuracy (Riemer et al. 2019)."""
    return float(learned(a, at).mean())


def avg_incremental(a: Matrix, at: Rows) -> float:
    """mean over rows i >= 1 of the mean over tasks with l_j <= i of A[i, j].

    Average incremental accuracy of iCaRL (Rebuffi et al. 2017), with the first row included and
    equal weights of tasks.
    """
    # Row 0 has no learned task and therefore no mean.
    seen = _rows(a) >= at
    tasks = seen.sum(1)
    return float((a.sum(1, where=seen)[tasks > 0] / tasks[tasks > 0]).mean())


def avg_triangle(a: Matrix, at: Rows) -> float:
    """mean over all cells with i >= l_j of A[i, j]: "A" of Díaz-Rodríguez et al. (2018).

    Every cell has the same weight, so late rows count more than in avg_incremental.
    """
    return mean_of(a[_rows(a) >= at])


def gained(a: Matrix, at: Rows) -> float:
    """1/J sum_j (A[j, j] - A[0, j]): what the stream taught, right after it taught each task."""
    return mean_of(learned(a, at) - a[0])


def gained_finally(a: Matrix, at: Rows) -> float:
    """1/J sum_j (A[P, j] - A[0, j]): what the stream taught and left in place."""
    return mean_of(a[-1] - a[0])


def forgetting_and_gain(a: Matrix, at: Rows) -> tuple[float, float]:
    """forgetting_at_learn, and the mean over the same old j of (A[j, j] - A[0, j])."""
    return forgetting_at_learn(a, at), mean_of((learned(a, at) - a[0])[_old(a, at)])


def forgetting_per_gained(a: Matrix, at: Rows) -> float:
    """forgetting_at_learn over what was gained on the same old tasks, a ratio of means.

    It sets apart a learner that forgets less from one that had less to forget. NaN where no more
    than NOISE was gained.
    """
    return per_gained(*forgetting_and_gain(a, at))


def per_gained(forgetting: float, gain: float) -> float:
    """Return forgetting / gain; NaN where the gain is no more than NOISE."""
    return forgetting / gain if gain > NOISE else float("nan")


def forgetting_max_seen(a: Matrix, at: Rows) -> float:
    """mean over old j of (max_{l_j<=i<P} A[i, j] - A[P, j]); below 0 where later training helps."""
    rows = _rows(a)
    return _fallen(a, at, best_of=(rows >= at) & (rows < len(a) - 1))


def forgetting_max_rows(a: Matrix, at: Rows) -> float:
    """mean over old j of (max_{1<=i<P} A[i, j] - A[P, j]): the literal f of Chaudhry et al. (2018).

    Rows before learning count, so a task that was best zero-shot is "forgotten" by learning it.
    """
    rows = _rows(a)
    return _fallen(a, at, best_of=(rows >= 1) & (rows < len(a) - 1))


def forgetting_max_last(a: Matrix, at: Rows) -> float:
    """mean over old j of (max_{l_j<=i<=P} A[i, j] - A[P, j]): as in PyCIL.

    The maximum includes the last row, so the value is never negative and hides backward transfer.
    """
    return _fallen(a, at, best_of=_rows(a) >= at)


def forgetting_at_learn(a: Matrix, at: Rows) -> float:
    """mean over old j of (A[j, j] - A[P, j]) = -bwt_gem."""
    return -bwt_gem(a, at)


def bwt_gem(a: Matrix, at: Rows) -> float:
    """mean over old j of (A[P, j] - A[j, j]): backward transfer of GEM."""
    return mean_of((a[-1] - learned(a, at))[_old(a, at)])


def bwt_pairs(a: Matrix, at: Rows) -> float:
    """mean over all cells with i > l_j of (A[i, j] - A[j, j]): backward transfer.

    Source: Díaz-Rodríguez et al. (2018).
    """
    # `learned` is a vector over tasks, which numpy subtracts from every row.
    return mean_of((a - learned(a, at))[_rows(a) > at])


def fwt_b_row0(a: Matrix, at: Rows) -> float:
    """mean over j with l_j > 1 of (A[l_j - 1, j] - A[0, j]): forward transfer of GEM, b = row 0."""
    # The first phase has no past that could transfer: its two rows are the same.
    return mean_of((zero_shot(a, at) - a[0])[at > 1])


def fwt_pairs_raw(a: Matrix, at: Rows) -> float:
    """mean over all cells with 1 <= i < l_j of A[i, j]: forward transfer.

    Source: Díaz-Rodríguez et al. (2018). No baseline is subtracted: it is an average like
    avg_final, and not zero where nothing transfers.
    """
    rows = _rows(a)
    return mean_of(a[(rows >= 1) & (rows < at)])


def learning_slope(a: Matrix, at: Rows) -> float:
    """Least-squares slope of A[j, j] over the order of learning, per task.

    Negative where plasticity is lost, if tasks are exchangeable (permuted inputs, random labels).
    NaN below three tasks.
    """
    if a.shape[1] < 3:
        return float("nan")
    # Ranks and not rows: phases that come back to a task add no step to the order of learning.
    order = np.argsort(np.argsort(at, kind="stable"), kind="stable")
    return float(np.polyfit(order, learned(a, at), 1)[0])


def gained_slope(a: Matrix, at: Rows) -> float:
    """Least-squares slope of (A[j, j] - A[0, j]) over the order of learning, per task.

    Unlike for learning_slope, some tasks may be harder than others: each counts from its value
    before the stream. NaN below three tasks.
    """
    return learning_slope(a - a[0], at)


def along(metric: Metric, a: Matrix, at: Rows) -> list[float]:
    """Return the metric after each phase, over the tasks learned by then; NaN in row 0."""
    values = []
    for row in range(len(a)):
        is_learned = at <= row
        values.append(metric(a[: row + 1, is_learned], at[is_learned]) if is_learned.any() else float("nan"))
    return values


def _rows(a: Matrix) -> Rows:
    """Return the row numbers as a column, to compare with l_j by broadcasting."""
    return np.arange(len(a))[:, None]


def _old(a: Matrix, at: Rows) -> NDArray[np.bool_]:
    return at < len(a) - 1


def _fallen(a: Matrix, at: Rows, *, best_of: NDArray[np.bool_]) -> float:
    """mean over old j of (the best A[i, j] among the cells `best_of` - A[P, j])."""
    old = _old(a, at)
    # -inf stays only for tasks without a cell in `best_of`, and no old task is among them.
    return mean_of(a.max(0, where=best_of, initial=-np.inf)[old] - a[-1, old])


def mean_of(values: Matrix) -> float:
    """Return the mean; NaN without values, or where one was not measured."""
    # Not `mean`: it gives the same number and takes twice as long, and thousands are asked for.
    return float(values.sum() / values.size) if values.size else float("nan")


def needed_cell(metric: Metric, a: Matrix, at: Rows) -> tuple[int, int] | None:
    """Return [i, j] of the first unmeasured cell that the metric needs; None: no cell would help.

    The metric is probed as a black box, so that no list of needed cells has to follow its formula.
    """
    cells = np.argwhere(np.isnan(a))

    def is_nan(count: int) -> bool:
        """Whether the metric is NaN with 0 in all unmeasured cells but the first `count`."""
        # Zero stands for a cell that was measured: whether
        # a metric is defined rarely hangs on its value.
        filled = np.where(np.isnan(a), 0, a)
        filled[tuple(cells[:count].T)] = np.nan
        return bool(np.isnan(metric(filled, at)))

    if is_nan(0):
        return None
    # More unmeasured cells never make a metric defined, so a binary search finds the first needed.
    row, column = cells[bisect_left(range(1, len(cells)), True, key=is_nan)]
    return int(row), int(column)
