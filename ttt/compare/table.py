"""A comparison as a table: of metrics, task by task, or along the stream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ttt.compare.groups import Group
from ttt.compare.sheet import SHOWS, Cell, Row, Sheet
from ttt.compare.statistics import is_ratio
from ttt.config.messages import show
from ttt.metrics.bootstrap import DRAWS, TRIM
from ttt.metrics.seeds import Interval
from ttt.results.catalogue import better, is_judged, is_signed, unit_of

# What is said of intervals, and of how tasks are summarised.
INTERVALS = {
    "t": "± half of the 95 % t-interval",
    "bootstrap": f"[middle 95 % of {DRAWS:,} draws of bases, seeds and tasks]",
}
STAR = "*: the interval leaves out zero"
PAIRED = "differences are paired with the baseline over the seeds of both, p by the sign-flip test"
RATIOS = "a ratio is of sums over seeds, in its interval by Fieller, or by the jackknife if paired"
OVER = {"median": "median over tasks", "trimmed": f"mean over tasks without {TRIM:.0%} at either end"}
# What a run takes of its machine, whose other work decides about it too: the same run takes another
# time tomorrow, and seeds say nothing of that.
MACHINE = ("seconds", "tokens per second", "bytes", "numbers")
UNTESTED = "time, speed and memory are the machine's, and not tested"
# What rows beside a baseline show, in the order in which they stand.
DIFFERENCE, OF_BASELINE, ALONE = "difference", "level of the baseline", "level, without a partner"
# Index of a group -> the group that it is compared with.
Baseline = Mapping[int, Group]


def by_metric(groups: Sequence[Group], metrics: Sequence[str], *, baseline: Baseline, sort: str | None) -> Sheet:
    """A row for each group; groups that have a `baseline` show paired differences to it.

    Beside differences levels stand apart, and their rows say what they show.
    """
    columns = [_column(groups, metric, baseline) for metric in metrics]
    words = [[*map(show, group.label.values()), _seeds(group, baseline.get(i))] for i, group in enumerate(groups)]
    order = list(range(len(groups)))
    if sort:
        # Groups are sorted by their own values, also where cells show differences.
        order.sort(key=lambda i: _worst_last(groups[i].interval(sort).mean, sort))
    keys, heads = [*groups[0].label, "seeds"], []
    if baseline:
        shown = [_shows(group, i, baseline) for i, group in enumerate(groups)]
        order.sort(key=lambda i: (DIFFERENCE, OF_BASELINE, ALONE).index(shown[i]))
        words = [[*row, shows] for row, shows in zip(words, shown, strict=True)]
        keys, heads = [*keys, SHOWS], [SHOWS]
    rows = [(words[i], [column[i] for column in columns]) for i in order]
    legend = _legend(groups, rows)
    if groups[0].by == "t" and any(map(is_ratio, metrics)):
        legend.append(RATIOS)
    return Sheet(_title(groups), keys, list(metrics), rows, heads=heads, legend=legend)


def _shows(group: Group, index: int, baseline: Baseline) -> str:
    """What the row of a group shows."""
    if index in baseline:
        return DIFFERENCE
    return OF_BASELINE if any(group is other for other in baseline.values()) else ALONE


def _seeds(group: Group, other: Group | None) -> str:
    """How many seeds are behind a row; of a difference those that both groups ran: `3 of 5`."""
    seeds = len(group.runs)
    pairs = seeds if other is None else group.shared_seeds(other)
    return str(seeds) if pairs == seeds else f"{pairs} of {seeds}"


def _column(groups: Sequence[Group], metric: str, baseline: Baseline) -> list[Cell]:
    cells = [_cell(group, metric, baseline.get(i)) for i, group in enumerate(groups)]
    # The best is chosen by the values themselves, also where differences are shown.
    means = [_worst_last(group.interval(metric).mean, metric) for group in groups]
    # `means` are oriented so that smaller is better and NaN comes last.
    best = min(means)
    if len(groups) < 2 or math.isinf(best) or not is_judged(metric):
        return cells
    leads = _leads(groups[means.index(best)], groups, metric)
    ahead = bool(leads) and all(lead.resolved for lead in leads)
    nearly = bool(leads) and not ahead and all(x.resolved or (x.is_flat and x.mean != 0) for x in leads)
    return [
        replace(cell, best=True, ahead=ahead, nearly_ahead=nearly) if mean == best else cell
        for cell, mean in zip(cells, means, strict=True)
    ]


def _leads(first: Group, groups: Sequence[Group], metric: str) -> list[Interval]:
    """The differences of `first` to all others; none of a metric that is of the machine."""
    if _is_of_machine(metric):
        return []
    others = [group for group in groups if group is not first]
    measured = [other for other in others if not math.isnan(other.interval(metric).mean)]
    return [first.difference(other, metric) for other in measured]


def _is_of_machine(metric: str) -> bool:
    return metric.startswith("cost/") and unit_of(metric) in MACHINE


def _cell(group: Group, metric: str, other: Group | None) -> Cell:
    if _is_of_machine(metric):
        interval = group.interval(metric) if other is None else group.difference(other, metric)
        return Cell(interval, difference=other is not None, of_machine=True)
    if other is None:
        return Cell(group.interval(metric), signed=_is_signed(group, metric))
    # The interval is that of the differences: it is narrower than both where seeds vary together.
    interval, p = group.difference(other, metric), group.p(other, metric)
    return Cell(interval, difference=True, signed=_is_signed(group, metric), p=p)


def _is_signed(group: Group, metric: str) -> bool:
    """Does zero mean no effect? It does for every number from which a null was subtracted."""
    return is_signed(metric) or group.runs[0].null is not None


def _worst_last(mean: float, metric: str) -> float:
    # NaN compares with nothing: sorted as it is, it would leave the list out of order.
    return math.inf if math.isnan(mean) else -better(metric) * mean


def _title(groups: Sequence[Group]) -> str:
    scenarios = ", ".join(sorted({f"{run.results.scenario}-incremental" for group in groups for run in group.runs}))
    differ = f"{len(groups)} groups that differ in {', '.join(groups[0].label)}" if len(groups) > 1 else "one group"
    return f"{scenarios}; {differ}"


def _legend(groups: Sequence[Group], rows: Sequence[Row]) -> list[str]:
    """How to read the cells of `rows`: no word of a sign that none of them shows."""
    cells = [cell for _, row in rows for cell in row]
    legend = [f"mean over seeds {INTERVALS[groups[0].by]}"]
    over = groups[0].runs[0].over
    legend += [OVER[over]] if over != "mean" else []
    legend += [STAR] if any(cell.resolved for cell in cells) else []
    legend += [PAIRED] if any(cell.difference for cell in cells) else []
    return legend + ([UNTESTED] if any(cell.of_machine for cell in cells) else [])


def by_task(groups: Sequence[Group], name: str) -> Sheet:
    """A row for each task, a column for each group. `name`: MODE/QUANTITY/MOMENT."""
    mode, quantity, moment = name.split("/")
    columns = [[Cell(i) for i in group.per_task(mode, quantity, moment)] for group in groups]
    rows = [([task], cells) for task, *cells in zip(task_names(groups), *columns, strict=True)]
    title, names = f"{name}; {_title(groups)}", [group.name for group in groups]
    return Sheet(title, ["task"], names, rows, legend=_legend(groups, rows))


def by_row(groups: Sequence[Group], metric: str) -> Sheet:
    """A row after each phase, a column for each group: a metric over the tasks learned by then."""
    columns = [[Cell(i) for i in group.curve(metric)] for group in groups]
    rows = [([str(i)], list(cells)) for i, cells in enumerate(zip(*columns, strict=True))]
    title = f"{metric} after each phase, over the tasks learned by then; {_title(groups)}"
    return Sheet(title, ["after"], [group.name for group in groups], rows, legend=_legend(groups, rows))


def task_names(groups: Sequence[Group]) -> list[str]:
    """Names of tasks where all runs share them, else numbers."""
    # With another seed the third task can be another one: then only its place is the same.
    columns = zip(*(run.results.tasks for group in groups for run in group.runs), strict=True)
    return [names[0] if len(set(names)) == 1 else f"task {j}" for j, names in enumerate(columns, start=1)]
