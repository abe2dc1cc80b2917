"""Savings (Ebbinghaus 1885): the share of the way to a criterion that need not be gone again.

    savings = 1 - N_again / N_first
    savings_slow    N in batches: the task is learned once more, on a copy of the learner
                    after the stream
    savings_fast    N in tokens read with locked slow weights: before the task was learned, and
                    after the stream

The criterion of savings_slow lies at 90 % of the way from the value before the phase that first
teaches the task to the value right after it. That of savings_fast is what reading alone reached
before the task was learned: the mean loss over the last quarter of the context in the row before.
"""

from __future__ import annotations

import math

import numpy as np

from ttt.metrics.anytime import criterion, first_steps
from ttt.metrics.curves import Curves, Savings, savings, to_criterion
from ttt.results.results import Results
from ttt.results.rows import Relearning
from ttt.results.scores import sign

NAN = float("nan")
# The loss along a context comes in sixteenths; it is smoothed over a quarter of the context.
QUARTER = 4


def saved_steps(curves: Curves, again: Relearning, *, mode: str, quantity: str) -> Savings:
    """Savings in batches of the one task that `again` relearned."""
    task = again["task"]
    # The copy starts where the stream ended, so that step 0 already counts: what was never lost
    # meets the criterion at once, and all of the way is saved.
    steps = np.array(again["steps"], dtype=np.float64)
    values = sign(quantity) * np.array(again["scores"][mode][quantity])
    length = to_criterion(steps, values, criterion=criterion(curves, task=task))
    return savings(first_steps(curves, task=task), length)


def saved_in_relearning(results: Results, mode: str, quantity: str) -> list[Savings]:
    """Savings in batches of each relearned task."""
    curves = results.curves(mode, quantity)
    return [saved_steps(curves, again, mode=mode, quantity=quantity) for again in results.relearned]


def saved_by_reading(results: Results) -> list[Savings]:
    """Savings in sixteenths of the context, of each task that was learned."""
    # A run that stopped has tasks whose row is not there.
    taught = [(j, int(row)) for j, row in enumerate(results.learned_at) if row < len(results.rows)]
    return [_by_reading(_profile(results, row - 1, j), _profile(results, -1, j)) for j, row in taught]


def _profile(results: Results, row: int, task: int) -> list[float]:
    profile, columns = results.rows[row]["profile"], results.rows[row]["columns"]
    return [] if profile is None or task not in columns else profile[columns.index(task)]


def _by_reading(before: list[float], after: list[float]) -> Savings:
    if not before or not after:
        return Savings(NAN, False)
    # Both curves are smoothed alike: a single easy token must not meet the criterion.
    first, again = _smoothed(before), _smoothed(after)
    if math.isnan(first[-1]) or math.isnan(again[-1]):
        return Savings(NAN, False)
    # No criterion is met before anything is read, nor before the first scored token.
    pieces = np.arange(len(before) + 1, dtype=np.float64)
    oriented = [np.array([-math.inf, *(-math.inf if math.isnan(x) else -x for x in curve)]) for curve in (first, again)]
    lengths = [to_criterion(pieces, values, criterion=-first[-1]) for values in oriented]
    return savings(lengths[0], lengths[1])


def _smoothed(pieces: list[float]) -> list[float]:
    """At each piece the mean over the scored ones among the last QUARTER pieces."""
    means = []
    for k in range(len(pieces)):
        scored = [x for x in pieces[max(0, k + 1 - QUARTER) : k + 1] if not math.isnan(x)]
        means.append(sum(scored) / len(scored) if scored else NAN)
    return means
