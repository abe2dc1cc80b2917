"""How sure a slope over the tasks of one run is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttt.metrics.matrix import Matrix, Rows, learned


class Slope(NamedTuple):
    """Ordinary least squares: `low` and `high` bound the slope with 95 %."""

    value: float
    low: float
    high: float


def slope_interval(a: Matrix, at: Rows) -> Slope:
    """learning_slope with its interval b +- t_{J-2, 0.975} s_b, s_b^2 = (sum e^2 / (J - 2)) / sum (x - mean x)^2.

    The unit is the task of one run: tasks that differ in difficulty widen it, and it says nothing of other seeds.
    Undefined below three tasks, or where a task was not measured right after it was learned.
    """
    tasks = a.shape[1]
    y = learned(a, at)
    if tasks < 3 or np.isnan(y).any():
        return Slope(float("nan"), float("nan"), float("nan"))
    x = np.argsort(np.argsort(at, kind="stable"), kind="stable").astype(np.float64)
    x -= x.mean()
    spread = float((x**2).sum())
    slope = float((x * y).sum()) / spread
    left = y - y.mean() - slope * x
    half = _quantile(tasks - 2) * float(np.sqrt((left**2).sum() / (tasks - 2) / spread))
    return Slope(slope, slope - half, slope + half)


def _quantile(freedom: int) -> float:
    # Imported here, and not scipy.stats: every run ends with this, and that takes a second to import.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
