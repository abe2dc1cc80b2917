"""What ttt-compare shows: each view is a table, and a function that draws the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import TYPE_CHECKING

from ttt.compare.frontier import Frontier
from ttt.compare.groups import MOMENTS, Group
from ttt.compare.names import Names
from ttt.compare.sheet import Sheet
from ttt.compare.table import by_row, by_task
from ttt.config.messages import suggest
from ttt.results import catalogue
from ttt.results.scores import quantity_of

# What a picture says of each of MOMENTS.
SAID = {"before": "before the stream", "learned": "right after learning", "final": "after the whole stream"}
# What shows every metric of some runs.
LISTED = "ttt-compare RUNS --metrics '*'"

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class TableView:
    """A table, and the picture that shows the same; `draw` is None if there is no such picture.

    `metrics`: those of its columns. `points`: the numbers of the picture, where they are not those
    of the table.
    """

    sheet: Sheet
    draw: Callable[[Names], Axes] | None = None
    metrics: Sequence[str] = ()
    points: Sequence[Mapping[str, object]] = ()


def measured_metrics(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """Those of `metrics` that some run has."""
    missing = set(metrics)
    for run in (run for group in groups for run in group.runs):
        missing.difference_update(run.names())
        # One run has them all, as a rule: of a thousand others nobody needs the names.
        if not missing:
            break
    return [metric for metric in metrics if metric not in missing]


def forgotten_metrics(groups: Sequence[Group], mode: str) -> list[str]:
    """What was forgotten of each set that a model knew, by its loss or else by its accuracy."""
    known_sets = {
        name: scores for group in groups for run in group.runs for name, scores in run.results.known_sets.items()
    }
    return [
        f"{mode}/{'loss' if 'loss' in scores[mode] else 'accuracy'}/known_{name}_forgetting"
        for name, scores in known_sets.items()
        if mode in scores
    ]


def matching_metrics(groups: Sequence[Group], typed: Sequence[str]) -> list[str]:
    """Names that match the typed names and patterns, in that order.

    Raises ValueError for a pattern that matches nothing.
    """
    # The order is that of what was typed, and a metric that two patterns match stands once.
    names, picked = _names(groups), []
    for word in typed:
        matching = [name for name in names if fnmatch(name, word)]
        if not matching:
            raise ValueError(f"--metrics {word}: unknown; {suggest(word, names, listed=LISTED)}")
        picked += [name for name in matching if name not in picked]
    return picked


def check_metric(groups: Sequence[Group], metric: str, *, option: str) -> None:
    """Raise ValueError for a metric that no run has."""
    if metric not in _names(groups):
        raise ValueError(f"{option} {metric}: unknown; {suggest(metric, _names(groups), listed=LISTED)}")


def _names(groups: Sequence[Group]) -> list[str]:
    return sorted(set().union(*(run.names() for group in groups for run in group.runs)))


def frontier_view(groups: Sequence[Group], *, key: str, axes: Sequence[str]) -> TableView:
    """Learning against forgetting, with a line for each method over `key`."""
    # Checked before anything is computed: a frontier of an unknown metric would be NaN everywhere.
    for metric in axes:
        check_metric(groups, metric, option="--axes")
    frontier = Frontier.of(groups, key=key, learning=axes[0], forgetting=axes[1])

    def draw(names: Names) -> Axes:
        # Imported only to draw: matplotlib takes longer to load than a table to appear.
        from ttt.compare.draw import draw_frontier

        return draw_frontier(frontier, names)

    return TableView(frontier.sheet(), draw, points=frontier.records())


def task_view(groups: Sequence[Group], typed: str) -> TableView:
    """MODE/QUANTITY/MOMENT on each task."""
    _check(groups, typed, option="--per-task", last=MOMENTS)
    _check_lengths(groups, f"--per-task {typed}")
    sheet = by_task(groups, typed)
    mode, quantity, moment = typed.split("/")
    rows = [words[0] for words, _ in sheet.rows]
    ylabel = f"{quantity_of(quantity).label} {SAID[moment]} ({mode}), {quantity_of(quantity).unit}"
    return TableView(sheet, partial(_draw_sheet, sheet, groups, rows=rows, xlabel="", ylabel=ylabel))


def curve_view(groups: Sequence[Group], typed: str) -> TableView:
    """MODE/QUANTITY/METRIC as it stands after each phase."""
    # Diagnostics have no quantity of R: their name is known or not, as a whole.
    if typed not in _diagnostics(groups):
        _check(groups, typed, option="--curve", last=catalogue.metrics_of_rows(), extra=("fast_gain",))
    _check_lengths(groups, f"--curve {typed}")
    sheet = by_row(groups, typed)
    mode, quantity, metric = typed.split("/")
    ylabel = typed
    if metric == "avg_final" and mode != "fast_gain":
        # Along the stream the end is wherever a line has come to.
        ylabel = f"{quantity_of(quantity).label} on the tasks so far ({mode}), {quantity_of(quantity).unit}"
    return TableView(sheet, partial(_draw_sheet, sheet, groups, xlabel="tasks learned", ylabel=ylabel))


def _draw_sheet(
    sheet: Sheet, groups: Sequence[Group], names: Names, *, rows: Sequence[str] = (), xlabel: str, ylabel: str
) -> Axes:
    """Draw a line for each group. `ylabel`: a metric, or words."""
    from ttt.compare.draw import axis_label, draw_lines

    shown = axis_label(ylabel, names) if ylabel.count("/") == 2 else ylabel
    labels = [names.method(group.label) for group in groups]
    return draw_lines(sheet, labels=labels, names=rows, xlabel=xlabel, ylabel=shown)


def _diagnostics(groups: Sequence[Group]) -> list[str]:
    """Metrics that stand in every row but not in R: of hidden units, and of drift."""
    return [name for name in _names(groups) if catalogue.find(name).needs == "diagnostics"]


def _check(groups: Sequence[Group], typed: str, *, option: str, last: Sequence[str], extra: Sequence[str] = ()) -> None:
    """Raise ValueError where MODE/QUANTITY/LAST names what no run has.

    `extra`: words that may stand in the place of a mode.
    """
    words = typed.split("/")
    if len(words) != 3:
        raise ValueError(f"{option} {typed}: must be three words, like fast/accuracy/{last[-1]}")
    results = [run.results for group in groups for run in group.runs]
    modes = [*sorted({mode for each in results for mode in each.modes}), *extra]
    quantities = sorted({quantity for each in results for quantity in each.quantities})
    for word, allowed in zip(words, (modes, quantities, last), strict=True):
        if word not in allowed:
            raise ValueError(f"{option} {typed}: {word!r} is unknown; {suggest(word, allowed)}")


def _check_lengths(groups: Sequence[Group], typed: str) -> None:
    lengths = sorted({len(run.results.tasks) for group in groups for run in group.runs})
    if len(lengths) > 1:
        raise ValueError(f"{typed}: the runs have {lengths[0]} to {lengths[-1]} tasks; compare equal streams")
