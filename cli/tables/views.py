"""What ttt-compare shows: each view is a table and a function that draws the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from ttt.compare.frontier import Frontier
from ttt.compare.groups import MOMENTS, Group
from ttt.compare.table import Sheet, by_row, by_task
from ttt.config.messages import suggest
from ttt.metrics.matrix import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Drawn = tuple[Sheet, Callable[[], "Axes"]]


def present(groups: Sequence[Group], wanted: Sequence[str]) -> list[str]:
    names = _names(groups)
    return [metric for metric in wanted if metric in names]


def metrics(groups: Sequence[Group], typed: Sequence[str]) -> list[str]:
    """Names out of names and patterns, in the order typed. Raises ValueError for one that matches nothing."""
    names, picked = _names(groups), []
    for word in typed:
        matching = [name for name in names if fnmatch(name, word)]
        if not matching:
            raise ValueError(f"--metrics {word}: unknown; {suggest(word, names)}")
        picked += [name for name in matching if name not in picked]
    return picked


def known(groups: Sequence[Group], metric: str, *, option: str) -> None:
    if metric not in _names(groups):
        raise ValueError(f"{option} {metric}: unknown; {suggest(metric, _names(groups))}")


def _names(groups: Sequence[Group]) -> list[str]:
    return sorted({name for group in groups for run in group.runs for name in run.names()})


def frontier(groups: Sequence[Group], *, key: str, axes: Sequence[str]) -> Drawn:
    for metric in axes:
        known(groups, metric, option="--axes")
    content = Frontier.of(groups, key=key, learning=axes[0], forgetting=axes[1])

    def draw() -> Axes:
        from ttt.compare.draw_frontier import frontier

        return frontier(content)

    return content.sheet(), draw


def per_task(groups: Sequence[Group], typed: str) -> Drawn:
    """MODE/QUANTITY/MOMENT for each task."""
    _check(groups, typed, option="--per-task", last=MOMENTS)
    sheet = by_task(groups, typed)
    mode, quantity, moment = typed.split("/")
    names = [words[0] for words, _ in sheet.rows]
    return sheet, lambda: _draw(sheet, names=names, xlabel="", ylabel=f"{quantity} (mode {mode}, {moment})")


def curve(groups: Sequence[Group], typed: str) -> Drawn:
    """MODE/QUANTITY/METRIC as it stands after each phase."""
    _check(groups, typed, option="--curve", last=tuple(METRICS), extra=("fast_gain",), more=_diagnosed(groups))
    sheet = by_row(groups, typed)
    mode, quantity, metric = typed.split("/")
    return sheet, lambda: _draw(sheet, xlabel="after phase", ylabel=f"{metric} of {quantity} (mode {mode})")


def _draw(sheet: Sheet, *, names: Sequence[str] = (), xlabel: str, ylabel: str) -> Axes:
    from ttt.compare.draw import lines

    return lines(sheet, labels=sheet.columns, names=names, xlabel=xlabel, ylabel=ylabel)


def _diagnosed(groups: Sequence[Group]) -> list[str]:
    """Metrics that stand in every row, but not in R: of hidden units, and of drift."""
    return [name for name in _names(groups) if name.split("/")[1] in ("plasticity", "drift")]


def _check(
    groups: Sequence[Group],
    typed: str,
    *,
    option: str,
    last: Sequence[str],
    extra: Sequence[str] = (),
    more: Sequence[str] = (),
) -> None:
    """Raises ValueError where MODE/QUANTITY/... names what no run has, or runs differ in their tasks.

    `more`: names that are known as a whole.
    """
    words = typed.split("/")
    modes = [*sorted({mode for group in groups for run in group.runs for mode in run.results.modes}), *extra]
    if len(words) != 3:
        raise ValueError(f"{option} {typed}: must be three words, like fast/accuracy/{last[-1]}")
    quantities = sorted({quantity for group in groups for run in group.runs for quantity in run.results.quantities})
    for word, allowed in zip(words, (modes, quantities, last), strict=True):
        if word not in allowed and typed not in more:
            raise ValueError(f"{option} {typed}: {word!r} is unknown; {suggest(word, allowed)}")
    lengths = sorted({len(run.results.tasks) for group in groups for run in group.runs})
    if len(lengths) > 1:
        raise ValueError(f"{option} {typed}: the runs have {lengths[0]} to {lengths[-1]} tasks; compare equal streams")
