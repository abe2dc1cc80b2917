"""A metric of R on some of the tasks: all of one kind, or one alone.

    on_tasks(results, "fast/loss/avg_final", [2])        the loss on task 3 after the stream
    each_task(results, "fast/loss/forgetting_at_learn")  a pair for each task that can be forgotten

The metric's function gets the columns of these tasks, and nothing else changes: the rows of R
still are all phases of the stream.

Shapes: J tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ttt.metrics.matrix import Matrix
from ttt.results.catalogue import find, has_scores
from ttt.results.definitions import MEANS_OVER_TASKS
from ttt.results.metric import Name
from ttt.results.results import Results
from ttt.results.scores import sign
from ttt.results.sources import SOURCES

NAN = float("nan")
OF_COLUMNS = ("R", "learned", "regret", "references", "gain", "split", "split read", "split carried", "split both")


def is_of_tasks(name: str) -> bool:
    """Is the metric a function of the columns of R, so that some tasks alone have it too?"""
    return find(name).needs in OF_COLUMNS


def is_mean_over_tasks(name: str) -> bool:
    """Does the metric average over tasks, so that each task has a value of its own?"""
    return is_of_tasks(name) and Name.of(name).metric in MEANS_OVER_TASKS


def on_tasks(results: Results, name: str, tasks: Sequence[int]) -> float:
    """The metric over some tasks (from 0); NaN where it is undefined or was not measured."""
    entry, arguments = find(name), _arguments(results, name)
    if arguments is None or not tasks:
        return NAN
    number = entry.of(*_columns(arguments, tasks))
    return sign(Name.of(name).quantity) * number if entry.better == "value" else number


def each_task(results: Results, name: str, tasks: Sequence[int]) -> Matrix:
    """What each of some tasks adds to a mean over tasks: (numerator, denominator) pairs [J, 2].

    The denominator is 1 unless the metric is a ratio. Tasks about which the metric says nothing
    (the last one cannot be forgotten) are left out. One pair of NaN where the metric lacks a cell.
    """
    assert is_mean_over_tasks(name), name
    entry, arguments = find(name), _arguments(results, name)
    unit = sign(Name.of(name).quantity) if entry.better == "value" else 1
    if arguments is None:
        return np.full((1, 2), NAN)

    def pair(columns: Sequence[int] | slice) -> tuple[float, float]:
        of_columns = _columns(arguments, columns)
        return entry.parts(*of_columns) if entry.parts else (unit * entry.of(*of_columns), 1.0)

    # Each metric is taken of one task at a time, as of a matrix with one column: a slice, since it
    # copies nothing.
    pairs = np.array([pair(slice(task, task + 1)) for task in tasks], dtype=np.float64).reshape(-1, 2)
    counted = pairs[~np.isnan(pairs).any(1)]
    # The metric over all tasks at once tells a task that does not count from one with a hole.
    is_whole = not len(counted) or not any(map(math.isnan, pair(tasks)))
    return counted if is_whole else np.full((1, 2), NAN)


def ratio_parts(results: Results, name: str) -> Matrix:
    """Numerator and denominator of a ratio over all tasks at once [2]: the mean of `each_task`."""
    entry, arguments = find(name), _arguments(results, name)
    assert entry.parts is not None, name
    return np.full(2, NAN) if arguments is None else np.array(entry.parts(*arguments))


def _arguments(results: Results, name: str) -> tuple[Any, ...] | None:
    """What the metric's function takes; None where it was not measured."""
    source = SOURCES[find(name).needs]
    if not source.is_measured(results) or not has_scores(results, Name.of(name)):
        return None
    return source.arguments(results, Name.of(name))


def _columns(arguments: Any, tasks: Sequence[int] | slice) -> Any:
    """The same arguments of some tasks alone: J is the last axis of every array among them."""
    if isinstance(arguments, np.ndarray):
        return arguments[..., tasks if isinstance(tasks, slice) else list(tasks)]
    if isinstance(arguments, tuple):
        picked = [_columns(argument, tasks) for argument in arguments]
        # A NamedTuple takes its fields one by one, a plain tuple takes them as a list.
        return type(arguments)(*picked) if hasattr(arguments, "_fields") else tuple(picked)
    return arguments
