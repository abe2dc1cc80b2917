"""Measures, one for each kind of claim: they compare our run with a baseline's of equal seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ttt.claims.series import Series, Unit, Values, time_to_level, value_at_level
from ttt.compare.groups import at_moment

# Success rates at which distances from the base are compared.
LEVELS = np.arange(0.1, 0.91, 0.1)
# An asymptote is a mean over this many evaluations at the end.
LAST = 5
# A baseline whose best success is lower has learned nothing: its best is no level to reach.
LEAST = 0.05
# The time to a level is interpolated: it needs an evaluation between the first and the last.
EVALUATIONS = 3

# (ours, baseline) of one seed -> a number, NaN where it is undefined
Measure = Callable[[Series, Series], float]


@dataclass(frozen=True)
class Sooner:
    """log2 of the baseline's cost to reach a success rate over our cost.

    `level` None stands for the baseline's own best. NaN if neither reaches the level, if the
    baseline's best is next to nothing, or if a run was measured only at its ends.
    """

    level: float | None
    unit: Unit

    def __call__(self, ours: Series, theirs: Series) -> float:
        goal = self._goal(theirs)
        sparse = min(len(ours.steps), len(theirs.steps)) < EVALUATIONS
        if sparse or goal < LEAST or not any(self.reached(ours, theirs)):
            return math.nan
        return math.log2(cost_to_reach(theirs, goal, unit=self.unit) / cost_to_reach(ours, goal, unit=self.unit))

    def reached(self, ours: Series, theirs: Series) -> tuple[bool, bool]:
        goal = self._goal(theirs)
        return bool(ours.success.max() >= goal), bool(theirs.success.max() >= goal)

    def _goal(self, theirs: Series) -> float:
        return float(theirs.success.max()) if self.level is None else self.level


def cost_to_reach(series: Series, level: float, *, unit: Unit) -> float:
    """Return what was spent until `level`, or until the end if it is never reached."""
    # At least one step: a prompt may reach the level before the first, and a ratio needs a cost.
    steps = max(min(time_to_level(series.steps, series.success, level), float(series.steps[-1])), 1.0)
    return series.spent(unit, steps)


def saved_drift(mode: str | None, quantity: str) -> Measure:
    """Return the measure: share of the baseline's distance from the base that we save.

    Both are compared at equal success, by the median over the levels that both reach. `mode` None
    measures each in its main mode.
    """

    def measure(ours: Series, theirs: Series) -> float:
        shares = []
        for level in LEVELS:
            mine, other = (
                value_at_level(run.success, run.values(mode or run.main_mode, quantity), level)
                for run in (ours, theirs)
            )
            # A NaN compares false: levels that one of the two does not reach drop out.
            if not math.isnan(mine) and other > 0:
                shares.append(1 - mine / other)
        return float(np.median(shares)) if shares else math.nan

    return measure


def success_gain(metric: str, *, mode: str | None = None) -> Measure:
    """Return the measure: our metric of success minus the baseline's.

    `mode` is ours; None takes the main mode. The baseline is always measured in its main mode.
    """

    def measure(ours: Series, theirs: Series) -> float:
        first = ours.run.metric(f"{mode or ours.main_mode}/success/{metric}")
        return first - theirs.run.metric(f"{theirs.main_mode}/success/{metric}")

    return measure


def asymptote_gain(ours: Series, theirs: Series) -> float:
    # The first evaluation is that of the base, before anything was learned.
    return float(ours.success[1:][-LAST:].mean() - theirs.success[1:][-LAST:].mean())


def equal_cost_gain(unit: Unit) -> Measure:
    """Return the measure: our success minus the baseline's after equal costs.

    They are what the run that spent less spent in all, searches for prompts included. NaN where a
    run did not count them.
    """

    def measure(ours: Series, theirs: Series) -> float:
        cost, other_cost = (np.array([run.spent(unit, step) for step in run.steps]) for run in (ours, theirs))
        # The minimum of two numbers is NaN if one is.
        spent = np.minimum(cost[-1], other_cost[-1])
        return float(np.interp(spent, cost, ours.success) - np.interp(spent, other_cost, theirs.success))

    return measure


def thrift(unit: Unit) -> Measure:
    """Return the measure: log2 of the baseline's whole cost over ours; NaN if one is unknown."""

    def measure(ours: Series, theirs: Series) -> float:
        mine, other = (run.spent(unit, run.steps[-1]) for run in (ours, theirs))
        return math.log2(other / mine) if mine > 0 and other > 0 else math.nan

    return measure


def skill_gain(ours: Series, theirs: Series) -> float:
    """Return our share of plain instructions obeyed at the end minus the baseline's."""
    mine, other = (run.run.results.base_values("slow", "reward")[-1] for run in (ours, theirs))
    return mine - other


def unprompted_gain(ours: Series, theirs: Series) -> float:
    """Return the difference of success on the last task, which both learn without prompts."""
    return float(ours.values("slow", "success")[-1] - theirs.values("slow", "success")[-1])


def later_gaps(ours: Series, theirs: Series) -> Values:
    """Return the difference of success right after learning each task but the first, [J - 1]."""
    mine, other = (np.array(at_moment(run.run.results, run.main_mode, "success", "learned")) for run in (ours, theirs))
    # Before the first task nothing was learned that could have cost plasticity.
    return (mine - other)[1:]


def later_gain(ours: Series, theirs: Series) -> float:
    return float(later_gaps(ours, theirs).mean())


def later_slope(ours: Series, theirs: Series) -> float:
    """Return the change of that difference with each task; NaN for a stream of two tasks."""
    gap_J = later_gaps(ours, theirs)
    return float(np.polyfit(np.arange(len(gap_J)), gap_J, 1)[0]) if len(gap_J) > 1 else math.nan


def reported_gain(term: str) -> Measure:
    return lambda ours, theirs: ours.last_report(term) - theirs.last_report(term)
