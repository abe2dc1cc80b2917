"""Results whose curves are drawn by hand, as in tests/metrics/test_curves.py."""

from __future__ import annotations

import math

import numpy as np

from ttt.results.results import Results
from ttt.results.scores import QUANTITIES

# Three tasks of 40 steps, measured every 10: task 1 dips in phase 2 and recovers all but 0.1,
# task 2 falls for good.
FIRST = [0.1, 0.5, 0.7, 0.8, 0.9, 0.3, 0.5, 0.7, 0.8, 0.4, 0.6, 0.8, 0.8]
SECOND = [0.2, 0.2, 0.2, 0.2, 0.2, 0.6, 0.8, 0.9, 0.9, 0.7, 0.6, 0.5, 0.4]
THIRD = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.7, 0.8, 0.9, 1.0]
VALUES = np.array([FIRST, SECOND, THIRD])


def drawn_results(*, anytime=True, tasks=3, modes=("slow", "fast")):
    """Return results whose accuracies are VALUES, and whose losses are 5 minus them."""
    results = Results(
        scenario="task",
        tasks=["a", "b", "c"][:tasks],
        fingerprints=[""] * tasks,
        learned_at=list(range(1, tasks + 1)),
        entropy=[math.nan] * tasks,
        phases=tasks,
    )
    results.every = 10 if anytime else 0
    for k in range(4 * tasks + 1):
        row, rest = divmod(k, 4)
        columns = list(range(tasks)) if rest == 0 else list(range(row + 1))
        accuracy = VALUES[columns, k]
        by_quantity = {q: (5 - accuracy if q.startswith("loss") else accuracy).tolist() for q in QUANTITIES}
        scores = dict.fromkeys(modes, by_quantity)
        if rest == 0:
            results.add(columns=columns, scores=scores, base=None, step=10 * k, current=row - 1 if row else None)
        elif anytime:
            results.points.append({"step": 10 * k, "columns": columns, "scores": scores})
    return results


def relearned(task, steps, accuracy, *, modes=("slow", "fast")):
    """Return what relearning one task measured, at these steps."""
    scores = {q: [5 - x for x in accuracy] if q.startswith("loss") else accuracy for q in QUANTITIES}
    return {"task": task, "steps": steps, "scores": dict.fromkeys(modes, scores)}


def profile(*pieces):
    """Return sixteen pieces of a context out of four quarters."""
    return [x for x in pieces for _ in range(4)]
