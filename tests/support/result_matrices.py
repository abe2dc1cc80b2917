"""Result matrices written by hand, and how a metric reads one of a plain stream."""

from __future__ import annotations

import numpy as np

from ttt.metrics.matrix import Rows
from ttt.results import definitions

# Functions of a matrix and the rows at which its tasks were learned, by name.
METRICS = {name: metric.of for name, metric in definitions.METRICS.items() if metric.needs == "R"}
AVERAGES = [name for name in METRICS if definitions.METRICS[name].better == "value"]
REFERENCE_METRICS = {name: metric.of for name, metric in definitions.METRICS.items() if metric.needs == "references"}

# Rows: before the stream, after task 1, 2, 3. Task 1 falls, then comes back a little.
FALLS = np.array([[0.1, 0.2, 0.3], [0.9, 0.2, 0.4], [0.5, 0.8, 0.5], [0.6, 0.7, 1.0]])
# Later training helps task 1; zero-shot on task 2 beats what learning leaves.
HELPS = np.array([[0.0, 0.9, 0.0], [0.5, 0.9, 0.0], [0.6, 0.4, 0.0], [0.8, 0.5, 0.7]])

# Losses of two tasks in three modes, oriented. Reading adds 0.5 right after learning, and 1.5 at
# the end.
SLOW = -np.array([[4.0, 4.0], [2.0, 4.0], [5.0, 2.0]])
FAST = -np.array([[3.5, 3.5], [1.5, 3.5], [3.5, 1.5]])
# The carried state helps by 0.25 right after learning, and does harm at the end.
CARRIED = -np.array([[3.5, 3.5], [1.25, 3.5], [4.0, 1.25]])


def plain_rows(tasks: int) -> Rows:
    """Return l_j of a stream that teaches each of its tasks once, in order."""
    return np.arange(1, tasks + 1)


def metric(name, a):
    """Return a metric of a stream that teaches each of its tasks once, in order."""
    return METRICS[name](a, plain_rows(a.shape[1]))
