"""The confidence interval of a slope over the tasks of one run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttt.metrics.matrix import Matrix, Rows, learned
from ttt.metrics.seeds import t_quantile


class Slope(NamedTuple):
    """A slope by ordinary least squares; `low` and `high` are the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def slope_interval(a: Matrix, at: Rows) -> Slope:
    """Return learning_slope with its interval b +- t_{J-2, 0.975} s_b.

    s_b^2 = (sum e^2 / (J - 2)) / sum (x - mean x)^2. The sample is the tasks of one run: tasks of
    different difficulty widen the interval, and it says nothing about other seeds. NaN below three
    tasks, or where a task was not measured right after it was learned.
    """
    tasks = a.shape[1]
    y = learned(a, at)
    if tasks < 3 or np.isnan(y).any():
        return Slope(float("nan"), float("nan"), float("nan"))
    # Ranks and not rows: a stream that comes back to a task has phases that teach nothing new.
    x = np.argsort(np.argsort(at, kind="stable"), kind="stable").astype(np.float64)
    # Centred, so that the intercept drops out of the slope.
    x -= x.mean()
    spread = float((x**2).sum())
    slope = float((x * y).sum()) / spread
    # x has a mean of zero, so the line passes through the mean of y.
    residual = y - y.mean() - slope * x
    half = t_quantile(tasks - 2) * float(np.sqrt((residual**2).sum() / (tasks - 2) / spread))
    return Slope(slope, slope - half, slope + half)
