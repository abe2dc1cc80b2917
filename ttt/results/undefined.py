"""Why a metric of a run is NaN, by the word in `Metric.needs`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

from ttt.metrics.anytime import why_curves_undefined
from ttt.metrics.matrix import Matrix, Rows, why_undefined
from ttt.metrics.references import why_not_compared
from ttt.metrics.split import lost_access
from ttt.results.metric import Metric, Name, Need
from ttt.results.results import Results
from ttt.results.savings import saved_in_relearning
from ttt.results.sources import SOURCES

Reason = Callable[[Results, Name, Metric], str]


def why_nan(results: Results, name: Name, metric: Metric) -> str:
    """The reason why `metric`, called `name`, is NaN for this run.

    Expensive beside the metric itself, so it is only computed for a number that is NaN.
    """
    return REASONS[metric.needs](results, name, metric)


def _no_cell(results: Results, name: Name, metric: Metric) -> str:
    a, at = SOURCES["R"].arguments(results, name)
    return _first_cell(metric.of, a, at)


def _no_regret(results: Results, name: Name, metric: Metric) -> str:
    # A loss with all cells has a mean: then it is the entropy that is missing.
    loss, at = results.matrix(name.mode, "loss"), results.learned_at
    return "the entropy of a task is not known" if not math.isnan(metric.of(loss, at)) else _first_cell(
        metric.of, loss, at
    )  # fmt: skip


def _no_gain(results: Results, name: Name, metric: Metric) -> str:
    slow, used, at = SOURCES["gain"].arguments(results, name)
    # A share needs the cells of lost_access, but is also NaN where all of them were measured.
    of = lost_access if metric.too_small else metric.of
    if metric.too_small and not math.isnan(of(slow, used, at)):
        return metric.too_small
    return _first_cell(of, slow - used, at, two_modes=True)


def _first_cell(of: Callable[..., float], a: Matrix, at: Rows, *, two_modes: bool = False) -> str:
    return _reason(of, a.shape, np.isnan(a).tobytes(), tuple(at.tolist()), two_modes)


@lru_cache(maxsize=4096)
def _reason(
    of: Callable[..., float], shape: tuple[int, int], holes: bytes, learned_at: tuple[int, ...], two_modes: bool
) -> str:
    """The reason as a function of what decides it: where the holes are, not the values around them.

    Many quantities have the same holes, so that few searches serve hundreds of metrics.
    """
    a = np.where(np.frombuffer(holes, dtype=np.bool_).reshape(shape), np.nan, 0.0)
    return why_undefined(partial(_against_zero, of) if two_modes else of, a, np.asarray(learned_at, dtype=np.int64))


def _against_zero(of: Callable[[Matrix, Matrix, Rows], float], a: Matrix, at: Rows) -> float:
    return of(a, np.zeros_like(a), at)


def _few_tasks(results: Results, name: Name, metric: Metric) -> str:
    """The reason for a comparison of tasks: few tasks, a small divisor, or the first hole in R."""
    if (tasks := len(results.tasks)) < metric.tasks:
        return f"undefined for {tasks} {'task' if tasks == 1 else 'tasks'}"
    # With enough tasks and all rows, only the number that it divides by can be the reason.
    if metric.too_small:
        return metric.too_small
    mode = "slow" if name.mode == "split" else name.mode
    holes = np.argwhere(np.isnan(results.matrix(mode, name.quantity)))
    return (
        f"task {holes[0][1] + 1} was not measured in row {holes[0][0]} (see eval.every)" if len(holes) else "undefined"
    )


def _no_curve(results: Results, name: Name, metric: Metric) -> str:
    return why_curves_undefined(name.metric, results.curves(name.mode, name.quantity))


def _not_relearned(results: Results, name: Name, metric: Metric) -> str:
    savings = saved_in_relearning(results, name.mode, name.quantity)
    idle = [again["task"] for again, x in zip(results.relearned, savings, strict=True) if math.isnan(x.value)]
    return f"task {idle[0] + 1} had nothing to learn when it was first taught" if idle else "no criterion was met"


# What a name needs was measured, or the name would not exist: the reasons are about what is left.
REASONS: dict[Need, Reason] = {
    "R": _no_cell,
    "learned": _few_tasks,
    "regret": _no_regret,
    "base": lambda *_: "the base distribution was not measured",
    "references": lambda results, name, _: why_not_compared(name.metric, results.references),
    "gain": _no_gain,
    "split": _few_tasks,
    "split read": _few_tasks,
    "split carried": _few_tasks,
    "split both": _few_tasks,
    "points": _no_curve,
    "shots": _no_curve,
    "relearned": _not_relearned,
    "profile": lambda *_: "no scored token in the last quarter of the context, or a row before learning is missing",
    "diagnostics": lambda *_: "not finite in the last row, or nothing to measure",
    "status": lambda *_: "not recorded",
}
