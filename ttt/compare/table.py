"""A comparison as a table: words that name a row, then an interval over seeds in each column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ttt.compare.groups import Group
from ttt.compare.statistics import is_ratio
from ttt.config.messages import show
from ttt.metrics.bootstrap import DRAWS, TRIM
from ttt.metrics.seeds import Interval
from ttt.results.catalogue import better, is_judged, is_signed

# What titles say of intervals, and of how tasks are summarised.
INTERVALS = {
    "t": "± half of the 95 % t-interval",
    "bootstrap": f"[middle 95 % of {DRAWS:,} draws of bases, seeds and tasks]",
}
OVER = {"median": "median over tasks", "trimmed": f"mean over tasks without {TRIM:.0%} at either end"}
# Index of a group -> the group that it is compared with.
Baseline = Mapping[int, Group]


@dataclass(frozen=True)
class Cell:
    """An interval over seeds.

    `difference`: to a baseline, over the seeds that both have, with the `p` of the sign-flip test.
    `signed`: zero means no effect. `best`: the best mean of its column. `ahead`: the best, and its
    paired difference to every other group leaves out zero.
    """

    interval: Interval
    difference: bool = False
    signed: bool = False
    p: float = float("nan")
    best: bool = False
    ahead: bool = False

    @property
    def resolved(self) -> bool:
        """Does the interval leave out zero, where zero would mean something?"""
        return (self.difference or self.signed) and self.interval.resolved


@dataclass(frozen=True)
class Sheet:
    """`keys` name the leading words of a row, `columns` its cells; `title` says what is compared.

    `heads`: the keys whose words stand once, above the rows that share them. `in_words`: the words
    already say what the cells say, so that people do not need the cells. `notes` stand below.
    """

    title: str
    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[Cell]]]
    heads: Sequence[str] = ()
    in_words: bool = False
    notes: Sequence[str] = ()

    def for_people(self) -> Sheet:
        """The sheet without cells that its words already say."""
        return replace(self, columns=[], rows=[(words, []) for words, _ in self.rows]) if self.in_words else self

    def sections(self) -> list[tuple[str, Sheet]]:
        """Consecutive rows under equal heads: a line with these heads, and a sheet without them."""
        # groupby sees neighbours only: rows keep their order, and a head may stand twice.
        heads = [i for i, key in enumerate(self.keys) if key in self.heads]
        rest = [i for i in range(len(self.keys)) if i not in heads]
        sections = []
        for words, rows in groupby(self.rows, key=lambda row: [row[0][i] for i in heads]):
            line = "; ".join(f"{self.keys[i]}: {word}" for i, word in zip(heads, words, strict=True))
            below = [([row_words[i] for i in rest], cells) for row_words, cells in rows]
            sections.append((line, replace(self, keys=[self.keys[i] for i in rest], rows=below, heads=())))
        return sections

    def records(self) -> list[dict[str, object]]:
        """One flat row for each cell, for CSV and JSON; None where nothing was measured."""
        return [
            dict(zip(self.keys, words, strict=True)) | {"column": column} | _record(cell)
            for words, cells in self.rows
            for column, cell in zip(self.columns, cells, strict=True)
        ]


def _record(cell: Cell) -> dict[str, object]:
    interval = cell.interval
    count: dict[str, object] = {"n": interval.n, "difference": cell.difference}
    ends = {"low": interval.low, "high": interval.high}
    numbers = {"mean": interval.mean, "sd": interval.sd, **ends, "p": cell.p}
    return (
        count
        | {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        | {"resolved": cell.resolved, "best": cell.best, "ahead": cell.ahead, "unbounded": math.isinf(interval.half)}
    )


def by_metric(groups: Sequence[Group], metrics: Sequence[str], *, baseline: Baseline, sort: str | None) -> Sheet:
    """A row for each group; groups that have a `baseline` show paired differences to it."""
    columns = [_column(groups, metric, baseline) for metric in metrics]
    rows = [
        ([*map(show, group.label.values()), _seeds(group, baseline.get(i))], [column[i] for column in columns])
        for i, group in enumerate(groups)
    ]
    if sort:
        # Groups are sorted by their own values, also where cells show differences.
        order = sorted(range(len(groups)), key=lambda i: _worst_last(groups[i].interval(sort).mean, sort))
        rows = [rows[i] for i in order]
    title = _title(groups, baseline)
    if groups[0].by == "t" and any(map(is_ratio, metrics)):
        title += "; a ratio is of sums over seeds, in its interval by Fieller, or by the jackknife if paired"
    return Sheet(title, [*groups[0].label, "seeds"], list(metrics), rows)


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
    ahead = _is_ahead(groups[means.index(best)], groups, metric)
    return [replace(c, best=mean == best, ahead=mean == best and ahead) for c, mean in zip(cells, means, strict=True)]


def _is_ahead(first: Group, groups: Sequence[Group], metric: str) -> bool:
    """Is the difference of `first` to every other group resolved, over the seeds that both have?"""
    others = [group for group in groups if group is not first]
    measured = [other for other in others if not math.isnan(other.interval(metric).mean)]
    return bool(measured) and all(first.difference(other, metric).resolved for other in measured)


def _cell(group: Group, metric: str, other: Group | None) -> Cell:
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


def _title(groups: Sequence[Group], baseline: Baseline) -> str:
    scenarios = ", ".join(sorted({f"{run.results.scenario}-incremental" for group in groups for run in group.runs}))
    differ = f"{len(groups)} groups that differ in {', '.join(groups[0].label)}" if len(groups) > 1 else "one group"
    over = groups[0].runs[0].over
    tasks = "" if over == "mean" else f"; {OVER[over]}"
    title = f"{scenarios}; {differ}; mean over seeds {INTERVALS[groups[0].by]}, sd; * leaves out zero{tasks}"
    if not baseline:
        return title
    return f"{title}; with p: paired difference to the baseline over the seeds of both, p of the sign-flip test"


def by_task(groups: Sequence[Group], name: str) -> Sheet:
    """A row for each task, a column for each group. `name`: MODE/QUANTITY/MOMENT."""
    mode, quantity, moment = name.split("/")
    columns = [[Cell(i) for i in group.per_task(mode, quantity, moment)] for group in groups]
    rows = [([task], cells) for task, *cells in zip(task_names(groups), *columns, strict=True)]
    return Sheet(f"{name}; {_title(groups, {})}", ["task"], [group.name for group in groups], rows)


def by_row(groups: Sequence[Group], metric: str) -> Sheet:
    """A row after each phase, a column for each group: a metric over the tasks learned by then."""
    columns = [[Cell(i) for i in group.curve(metric)] for group in groups]
    rows = [([str(i)], list(cells)) for i, cells in enumerate(zip(*columns, strict=True))]
    title = f"{metric} after each phase, over the tasks learned by then; {_title(groups, {})}"
    return Sheet(title, ["after"], [group.name for group in groups], rows)


def task_names(groups: Sequence[Group]) -> list[str]:
    """Names of tasks where all runs share them, else numbers."""
    # With another seed the third task can be another one: then only its place is the same.
    columns = zip(*(run.results.tasks for group in groups for run in group.runs), strict=True)
    return [names[0] if len(set(names)) == 1 else f"task {j}" for j, names in enumerate(columns, start=1)]
