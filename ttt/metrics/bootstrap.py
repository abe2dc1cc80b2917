"""Intervals that know where numbers vary: between bases, between seeds of a base, between tasks.

    draw as many bases, with replacement; of each as many of its seeds; of each run as many of its
    tasks; take the metric again. The middle 95 % of DRAWS such numbers are the interval.

A t-interval over seeds knows the tasks only through the few runs that drew them: one language in an
unknown script among ten moves the mean of a run, and three runs may hold none.

Shapes: D draws, N runs, J tasks; the last axis holds numerator and denominator.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from ttt.metrics.matrix import NOISE, Matrix, Rows
from ttt.metrics.seeds import INF, NAN, Interval, between, ratio_of, spread

DRAWS = 2000
# The share that `trimmed` leaves out at either end.
TRIM = 0.1
Over = Literal["mean", "median", "trimmed"]
ALL = slice(None)


@dataclass(frozen=True)
class Sample:
    """What one run says of a metric: a numerator and a denominator on each of its tasks.

    The denominator is 1 unless the metric is a ratio. `null_J2`: what is to be subtracted, from a
    run whose tasks do not shift; its denominator is 0 unless the metric is a ratio. `over`: how
    tasks are summarised.
    """

    base: Hashable
    pairs_J2: Matrix
    null_J2: Matrix | None = None
    over: Over = "mean"

    def value(self, *, tasks: Rows | slice = ALL, null_tasks: Rows | slice = ALL) -> Matrix:
        """Numerator and denominator of the run [2]; with drawn tasks [D, J] those of each draw."""
        pairs = over_tasks(self.pairs_J2[tasks], over=self.over)
        return pairs if self.null_J2 is None else pairs - over_tasks(self.null_J2[null_tasks], over=self.over)


def over_tasks(pairs: Matrix, *, over: Over) -> Matrix:
    """Summarise numerators and denominators over tasks, which are the last axis but one."""
    if over == "median":
        return np.asarray(np.median(pairs, axis=-2))
    if over == "trimmed":
        from scipy.stats import trim_mean

        return np.asarray(trim_mean(pairs, TRIM, axis=-2))
    return np.asarray(pairs.mean(axis=-2))


def values_of(samples: Sequence[Sample]) -> Matrix:
    """Numerator and denominator of each run: [N, 2]."""
    return np.array([sample.value() for sample in samples]).reshape(-1, 2)


def bootstrap(samples: Sequence[Sample], *, draws: int = DRAWS) -> Interval:
    """The metric over some runs with the middle 95 % of its draws."""
    values_N2 = values_of(samples)
    value = ratio_of(values_N2)
    if len(samples) < 2 or math.isnan(value):
        # One seed says nothing about other seeds, however many tasks it has.
        return between(value, NAN, NAN, n=len(samples))
    # Draws go from the widest to the narrowest: bases, the seeds of a base, the tasks of a seed.
    (drawn_DN2,) = _draws([samples], draws)
    return _middle(value, _ratios(drawn_DN2), n=len(samples), sd=spread(values_N2))


def bootstrap_difference(samples: Sequence[Sample], others: Sequence[Sample]) -> Interval:
    """The metric over some runs minus that over others, which had the same bases and seeds.

    Both are drawn alike, so that what they share cancels out in every draw.
    """
    ours_N2, theirs_N2 = (values_of(each) for each in (samples, others))
    difference = ratio_of(ours_N2) - ratio_of(theirs_N2)
    if len(samples) < 2 or math.isnan(difference):
        return between(difference, NAN, NAN, n=len(samples))
    ours_DN2, theirs_DN2 = _draws([samples, others], DRAWS)
    numbers_D = _ratios(ours_DN2) - _ratios(theirs_DN2)
    return _middle(difference, numbers_D, n=len(samples), sd=NAN)


def _middle(value: float, numbers_D: Matrix, *, n: int, sd: float) -> Interval:
    # A draw in which nothing was gained has no ratio: it could lie at either end. The quantiles are
    # drawn numbers, since one between a number and infinity is none.
    low = float(np.quantile(np.nan_to_num(numbers_D, nan=-INF), 0.025, method="lower"))
    high = float(np.quantile(np.nan_to_num(numbers_D, nan=INF), 0.975, method="higher"))
    return between(value, low, high, n=n, sd=sd)


def _ratios(pairs_DN2: Matrix) -> Matrix:
    """The ratio of the means over runs in each draw [D]; NaN where too little was gained."""
    above_D, below_D = np.moveaxis(np.nanmean(pairs_DN2, axis=1), -1, 0)
    # A mean of the ratios of runs would be ruled by the runs with the smallest denominators.
    return np.asarray(above_D / np.where(below_D > NOISE, below_D, NAN))


def _draws(arms: Sequence[Sequence[Sample]], draws: int) -> list[Matrix]:
    """Numerators and denominators of the drawn runs [D, N, 2] of each arm; NaN in empty places."""
    # A fixed generator: a table must not change when it is printed again.
    rng = np.random.default_rng(0)
    runs_DN = _draw_runs([sample.base for sample in arms[0]], draws, rng)
    drawn = [np.full((*runs_DN.shape, 2), NAN) for _ in arms]
    for run in range(len(arms[0])):
        places = runs_DN == run
        count = int(places.sum())
        tasks = _draw_tasks([arm[run].pairs_J2 for arm in arms], count, rng)
        null_tasks = _draw_tasks([arm[run].null_J2 for arm in arms], count, rng)
        # The same draws serve both arms, so that what a task adds to both cancels out.
        for k, arm in enumerate(arms):
            drawn[k][places] = arm[run].value(tasks=tasks[k], null_tasks=null_tasks[k])
    return drawn


def _draw_tasks(pairs: Sequence[Matrix | None], count: int, rng: Generator) -> list[Rows | slice]:
    """Draw the tasks of one run in each arm [count, J]: the same ones where as many count."""
    sizes = {len(each) for each in pairs if each is not None}
    tasks = {size: rng.integers(size, size=(count, size)) for size in sorted(sizes)}
    return [ALL if each is None else tasks[len(each)] for each in pairs]


def _draw_runs(bases: Sequence[Hashable], draws: int, rng: Generator) -> Rows:
    """Draw bases, then of each base as many runs as it has: [D, N], with -1 in empty places."""
    members = [np.array([i for i, other in enumerate(bases) if other == base]) for base in dict.fromkeys(bases)]
    most = max((len(runs) for runs in members), default=0)
    # A base may be drawn twice or not at all; empty places of smaller bases stay -1.
    base_DB = rng.integers(max(len(members), 1), size=(draws, len(members)))
    runs_DBN = np.full((draws, len(members), most), -1)
    for k, runs in enumerate(members):
        places = base_DB == k
        runs_DBN[places, : len(runs)] = rng.choice(runs, size=(int(places.sum()), len(runs)))
    return runs_DBN.reshape(draws, -1)
