"""Every metric of curves.py as one number of a run, by name. Higher is better in a curve."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from ttt.metrics.curves import (
    Curves,
    Length,
    gap_depth,
    gap_lasting,
    gap_length,
    mean_gap,
    mean_seen,
    min_acc,
    old_pairs,
    to_criterion,
    wc_acc,
    windowed_forgetting,
    windowed_plasticity,
)

# WINDOW: evaluations in a window. SHOTS: evaluations in the learning-curve area. SHARE: share of
# the gain of a task's first phase at which its criterion lies; the whole gain would never be
# reached again under noise.
WINDOW, SHOTS, SHARE = 10, 10, 0.9


def criterion(curves: Curves, *, task: int) -> float:
    """Return c_j, the value at SHARE of the way from before to after task j's first phase."""
    phase = curves.learned_in()[task]
    before, after = (curves.at(float(n), task=task) for n in curves.ends[phase - 1 : phase + 1])
    return before + SHARE * (after - before)


def first_steps(curves: Curves, *, task: int) -> Length:
    """Return the length from the start of a task's first phase until its criterion is met."""
    phase = curves.learned_in()[task]
    # Phase k lies between ends[k - 1] and ends[k].
    start, stop = curves.ends[phase - 1 : phase + 1]
    # Both ends count: a criterion may be met before learning, which is a length of 0.
    inside = (curves.times >= start) & (curves.times <= stop)
    return to_criterion(curves.times[inside], curves.values[inside, task], criterion=criterion(curves, task=task))


def shots(curves: Curves, *, every: int) -> int:
    """Return beta of the learning-curve area: SHOTS, or less where a first phase is short."""
    lengths = [curves.ends[phase] - curves.ends[phase - 1] for phase in curves.learned_in().values()]
    # With more shots the shortest first phase would lack a point, and the area would be NaN.
    return min(SHOTS, int(min(lengths) // every)) if lengths else 0


def _gap_lengths(curves: Curves) -> list[Length]:
    return [gap_length(curves, phase=phase, task=task) for phase, task in old_pairs(curves)]


def _firsts(curves: Curves) -> list[Length]:
    return [first_steps(curves, task=task) for task in curves.learned_in()]


# The learning-curve area is missing: its beta depends on the run.
ANYTIME: dict[str, Callable[[Curves], float]] = {
    "min_acc": lambda curves: min_acc(curves, n=curves.ends[-1]),
    "wc_acc": lambda curves: wc_acc(curves, n=curves.ends[-1]),
    "gap_depth": lambda curves: mean_gap(curves, gap_depth),
    "gap_lasting": lambda curves: mean_gap(curves, gap_lasting),
    "gap_length": lambda curves: mean_seen(_gap_lengths(curves))[0],
    "gap_length_censored": lambda curves: mean_seen(_gap_lengths(curves))[1],
    "windowed_forgetting": lambda curves: windowed_forgetting(curves, window=WINDOW),
    "windowed_plasticity": lambda curves: windowed_plasticity(curves, window=WINDOW),
    "steps_to_criterion": lambda curves: mean_seen(_firsts(curves))[0],
    "steps_to_criterion_censored": lambda curves: mean_seen(_firsts(curves))[1],
}


def why_curves_undefined(name: str, curves: Curves, *, measured: Collection[tuple[float, int]]) -> str:
    """Return why a metric of these curves is NaN, in the user's words.

    `measured`: (time, task) of every value that was measured, NaN or not.
    """
    for task, phase in curves.learned_in().items():
        # Before its first phase a task need not be measured.
        since = curves.times >= curves.ends[phase - 1]
        holes = curves.times[since][np.isnan(curves.values[since, task])]
        if len(holes):
            # The end of a phase is a row of R, and a row is what the user can ask for.
            row = np.flatnonzero(curves.ends == holes[0])
            where = f"in row {row[0]}" if len(row) else f"at step {holes[0]:.0f}"
            if (holes[0], task) in measured:
                return f"task {task + 1} has no finite value {where} (no token was scored, or the run diverged)"
            return f"task {task + 1} was not measured {where}" + (" (see eval.every)" if len(row) else "")
    if name == "gap_length" and any(True for _ in old_pairs(curves)):
        return "no old task came back within a phase"
    return "no task was old in any phase" if len(curves.learned_in()) < 2 else "undefined for these curves"
