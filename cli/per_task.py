"""ttt-compare --per-task: what each group scores on each task of the stream, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ttt.cli.cell import cell

from ttt.compare import MOMENTS, Group
from ttt.config import show, suggest
from ttt.evaluate import QUANTITIES


def check(groups: Sequence[Group], typed: str) -> None:
    """Raises ValueError where MODE/QUANTITY/MOMENT names what no run has, or runs differ in their tasks."""
    words = typed.split("/")
    modes = sorted({mode for group in groups for run in group.runs for mode in run.results.modes})
    if len(words) != 3:
        raise ValueError(f"--per-task {typed}: must be MODE/QUANTITY/MOMENT, like fast/accuracy/final")
    for word, allowed in zip(words, (modes, QUANTITIES, MOMENTS), strict=True):
        if word not in allowed:
            raise ValueError(f"--per-task {typed}: {word!r} is unknown; {suggest(word, allowed)}")
    lengths = sorted({len(run.results.tasks) for group in groups for run in group.runs})
    if len(lengths) > 1:
        raise ValueError(
            f"--per-task {typed}: the runs have {lengths[0]} to {lengths[-1]} tasks; compare equal streams"
        )


def task_names(groups: Sequence[Group]) -> list[str]:
    """Names where all seeds share them, else numbers: with another seed the third task is another one."""
    columns = zip(*(run.results.tasks for group in groups for run in group.runs), strict=True)
    return [names[0] if len(set(names)) == 1 else f"task {j}" for j, names in enumerate(columns, start=1)]


def called(group: Group) -> str:
    return ", ".join(f"{key}={show(value)}" for key, value in group.label.items()) or "all runs"


def header(groups: Sequence[Group]) -> list[str]:
    return ["task", *(f"{called(group)} (n={len(group.runs)})" for group in groups)]


def rows(groups: Sequence[Group], typed: str) -> list[list[str]]:
    mode, quantity, moment = typed.split("/")
    columns = [[cell(i, difference=False) for i in group.per_task(mode, quantity, moment)] for group in groups]
    return [[name, *cells] for name, *cells in zip(task_names(groups), *columns, strict=True)]


def plot(groups: Sequence[Group], typed: str, file: Path) -> None:
    """One line for each group over the tasks, its interval over seeds as a band."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mode, quantity, moment = typed.split("/")
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = task_names(groups)
    place = np.arange(len(names))
    for group in groups:
        intervals = group.per_task(mode, quantity, moment)
        mean, half = np.array([i.mean for i in intervals]), np.array([i.half for i in intervals])
        axes.plot(place, mean, label=called(group))
        axes.fill_between(place, mean - half, mean + half, alpha=0.2)
    # A name each would be a black bar with many tasks.
    shown = place[:: -(-len(names) // 12)]
    axes.set_xticks(shown, [names[j] for j in shown], rotation=30, ha="right")
    axes.set(ylabel=f"{quantity} (mode {mode}, {moment})")
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(file)
