"""From the runs of a method to one number with an interval.

t           over seeds: mean +- t * sd / sqrt(n); of a ratio Fieller's interval, and for a
            difference of ratios the jackknife
bootstrap   over bases, seeds of a base, and tasks of a run (ttt.metrics.bootstrap)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ttt.compare.runs import Run
from ttt.metrics.bootstrap import Sample, bootstrap, bootstrap_difference
from ttt.metrics.matrix import Matrix
from ttt.metrics.seeds import Interval, fieller, ratio_difference, sign_flip, t_interval
from ttt.results.catalogue import find

IntervalBy = Literal["t", "bootstrap"]
NAN = float("nan")


def interval_of(runs: Sequence[Run], metric: str, *, by: IntervalBy) -> Interval:
    """A metric over runs with its 95 % interval."""
    if by == "bootstrap":
        return bootstrap([run.sample(metric) for run in runs])
    if is_ratio(metric):
        return fieller(_ratios(runs, metric))
    return t_interval([run.metric(metric) for run in runs])


def difference_of(runs: Sequence[Run], others: Sequence[Run], metric: str, *, by: IntervalBy) -> Interval:
    """A metric over runs minus that over `others`, which are paired with them."""
    if by == "t" and not is_ratio(metric):
        return t_interval(_differences(runs, others, metric))
    if by == "bootstrap":
        return bootstrap_difference(*([run.sample(metric) for run in each] for each in (runs, others)))
    return ratio_difference(_ratios(runs, metric), _ratios(others, metric))


def p_of(runs: Sequence[Run], others: Sequence[Run], metric: str) -> float:
    """The p of the sign-flip test over pairs of runs.

    NaN for a ratio, which has no difference of one run.
    """
    return NAN if is_ratio(metric) else sign_flip(_differences(runs, others, metric))


def _differences(runs: Sequence[Run], others: Sequence[Run], metric: str) -> list[float]:
    return [run.metric(metric) - other.metric(metric) for run, other in zip(runs, others, strict=True)]


def _ratios(runs: Sequence[Run], metric: str) -> Matrix:
    """Numerator and denominator of each run [N, 2]."""
    return np.array([run.ratio_parts(metric) for run in runs]).reshape(-1, 2)


def interval_over(runs: Sequence[Run], values: Sequence[float], *, by: IntervalBy) -> Interval:
    """One number of each run with its 95 % interval; its tasks are not drawn again."""
    if by == "t":
        return t_interval(values)
    pairs = zip(runs, values, strict=True)
    return bootstrap([Sample(run.base, np.array([[value, 1.0]])) for run, value in pairs])


def is_ratio(metric: str) -> bool:
    """Does the metric divide two sums over runs?"""
    return find(metric).parts is not None
