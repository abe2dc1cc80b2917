"""Why a metric of a run is NaN, by the word in `Metric.needs`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np

from ttt.metrics.anytime import why_curves_undefined
from ttt.metrics.matrix import Matrix, Rows, needed_cell
from ttt.metrics.references import why_not_compared
from ttt.results.metric import Metric, Name, Need
from ttt.results.results import Results
from ttt.results.savings import saved_in_relearning
from ttt.results.sources import SOURCES, Modes

Reason = Callable[[Results, Name, Metric], str]
Probe = Callable[[Callable[..., float], Matrix, Rows], float]


def why_nan(results: Results, name: Name, metric: Metric) -> str:
    """The reason why `metric`, called `name`, is NaN for this run.

    Expensive beside the metric itself, so it is only computed for a number that is NaN.
    """
    return REASONS[metric.needs](results, name, metric)


def _no_cell(results: Results, name: Name, metric: Metric) -> str:
    a, at = SOURCES["R"].arguments(results, name)
    return _first_hole(results, name, metric, probe=_alone, matrices=[a], at=at)


def _no_regret(results: Results, name: Name, metric: Metric) -> str:
    # A loss with all cells has a mean: then it is the entropy that is missing.
    loss, at = results.matrix(name.mode, "loss"), results.learned_at
    if not math.isnan(metric.of(loss, at)):
        return "the entropy of a task is not known"
    return _first_hole(results, name, metric, probe=_alone, matrices=[loss], at=at)


def _no_gain(results: Results, name: Name, metric: Metric) -> str:
    slow, used, at = SOURCES["gain"].arguments(results, name)
    return _first_hole(results, name, metric, probe=_against_none, matrices=[slow, used], at=at)


def _no_part(results: Results, name: Name, metric: Metric) -> str:
    (modes,) = SOURCES[metric.needs].arguments(results, name)
    matrices = [a for a in (modes.slow, modes.used, modes.carried) if a is not None]
    return _first_hole(results, name, metric, probe=_in_modes, matrices=matrices, at=modes.at)


# A probe calls a function of one, two or more matrices with a single one: zeros, and NaN in the
# holes. To it the stream teaches 1 on every task, and the slow weights lose 1 with every row:
# neither gain nor harm is too small to divide by.
def _alone(of: Callable[..., float], a: Matrix, at: Rows) -> float:
    return float(of(a + (np.arange(len(a)) > 0)[:, None], at))


def _against_none(of: Callable[..., float], a: Matrix, at: Rows) -> float:
    return float(of(_falling(a), a, at))


def _in_modes(of: Callable[..., float], a: Matrix, at: Rows) -> float:
    return float(of(Modes(slow=_falling(a), used=a, carried=a, at=at)))


def _falling(a: Matrix) -> Matrix:
    return a - np.arange(len(a))[:, None]


def _first_hole(
    results: Results, name: Name, metric: Metric, *, probe: Probe, matrices: Sequence[Matrix], at: Rows
) -> str:
    """The first cell that the metric needs and that is not finite, or why it is NaN without one."""
    finite = np.logical_and.reduce([np.isfinite(a) for a in matrices])
    # Bytes and a tuple can be hashed, which the cache needs.
    cell = _needed(metric.of, probe, finite.shape, finite.tobytes(), tuple(at.tolist()))
    if cell is None and not math.isnan(probe(metric.of, np.zeros(finite.shape), at)):
        return metric.too_small or "undefined"
    if cell is None:
        return f"undefined for {len(results.tasks)} {'task' if len(results.tasks) == 1 else 'tasks'}"
    row, task = cell
    if row < len(results.rows) and task in results.rows[row]["columns"]:
        return f"task {task + 1} has no finite {name.quantity} in row {row} (no token was scored, or the run diverged)"
    return f"task {task + 1} was not measured in row {row} (see eval.every)"


@lru_cache(maxsize=4096)
def _needed(
    of: Callable[..., float], probe: Probe, shape: tuple[int, int], finite: bytes, learned_at: tuple[int, ...]
) -> tuple[int, int] | None:
    """The first hole that a metric needs, by what decides it: where the holes are. None: no hole.

    Many quantities have the same holes, so that few searches serve hundreds of metrics.
    """
    a = np.where(np.frombuffer(finite, dtype=np.bool_).reshape(shape), 0.0, np.nan)
    metric, at = partial(probe, of), np.asarray(learned_at, dtype=np.int64)
    return needed_cell(metric, a, at) if math.isnan(metric(a, at)) else None


def _no_curve(results: Results, name: Name, metric: Metric) -> str:
    measured = {(float(x["step"] or 0), task) for x in (*results.rows, *results.points) for task in x["columns"]}
    return why_curves_undefined(name.metric, results.curves(name.mode, name.quantity), measured=measured)


def _not_relearned(results: Results, name: Name, metric: Metric) -> str:
    savings = saved_in_relearning(results, name.mode, name.quantity)
    idle = [again["task"] for again, x in zip(results.relearned, savings, strict=True) if math.isnan(x.value)]
    return f"task {idle[0] + 1} had nothing to learn when it was first taught" if idle else "no criterion was met"


# What a name needs was measured, or the name would not exist: the reasons are about what is left.
REASONS: dict[Need, Reason] = {
    "R": _no_cell,
    "learned": _no_cell,
    "regret": _no_regret,
    "base": lambda *_: "the base distribution was not measured",
    "known": lambda *_: "this set was not measured in this mode and quantity, or is not finite",
    "references": lambda results, name, _: why_not_compared(name.metric, results.references),
    "gain": _no_gain,
    "split": _no_part,
    "split read": _no_part,
    "split carried": _no_part,
    "split both": _no_part,
    "points": _no_curve,
    "shots": _no_curve,
    "relearned": _not_relearned,
    "profile": lambda *_: "no scored token in the last quarter of the context, or a row before learning is missing",
    "diagnostics": lambda *_: "not finite in the last row, or nothing to measure",
    "status": lambda *_: "not recorded",
}
