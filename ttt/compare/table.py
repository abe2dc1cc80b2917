"""A comparison as a table: words that name a row, then an interval over seeds in each column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ttt.compare.groups import Group
from ttt.config.messages import show
from ttt.metrics.matrix import AVERAGES
from ttt.metrics.seeds import Interval, sign_flip, t_interval
from ttt.results.catalogue import better

Baseline = Mapping[int, Group]
SIGNED = ("forgetting", "bwt", "fwt", "slope", "plasticity_loss", "plasticity_gap", "intransigence", "lost_")


@dataclass(frozen=True)
class Cell:
    """`difference`: to a baseline, over the seeds of both, with the sign-flip test's `p`. `signed`: zero means none.

    `best`: the best mean of its column. A value is called resolved only where zero would mean something.
    """

    interval: Interval
    difference: bool = False
    signed: bool = False
    p: float = float("nan")
    best: bool = False

    @property
    def resolved(self) -> bool:
        return (self.difference or self.signed) and self.interval.resolved


@dataclass(frozen=True)
class Sheet:
    """`keys` name the leading words of a row, `columns` its cells; `title` says what is compared and how.

    `heads`: those of `keys` whose words a reader wants once, above the rows that share them. `in_words`: the words
    say the cells too, which are for other programs then.
    """

    title: str
    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[Cell]]]
    heads: Sequence[str] = ()
    in_words: bool = False

    def for_people(self) -> Sheet:
        """Without cells that the words say already."""
        return replace(self, columns=[], rows=[(words, []) for words, _ in self.rows]) if self.in_words else self

    def sections(self) -> list[tuple[str, Sheet]]:
        """The rows that follow each other under equal heads: what these say, and a sheet without them."""
        heads = [i for i, key in enumerate(self.keys) if key in self.heads]
        rest = [i for i in range(len(self.keys)) if i not in heads]
        found = []
        for words, rows in groupby(self.rows, key=lambda row: [row[0][i] for i in heads]):
            told = "; ".join(f"{self.keys[i]}: {word}" for i, word in zip(heads, words, strict=True))
            shown = [([said[i] for i in rest], cells) for said, cells in rows]
            found.append((told, replace(self, keys=[self.keys[i] for i in rest], rows=shown, heads=())))
        return found

    def records(self) -> list[dict[str, object]]:
        """A flat row for each cell, as CSV and JSON have it; None is not measured."""
        made = []
        for words, cells in self.rows:
            for column, cell in zip(self.columns, cells, strict=True):
                mean, half, n, sd = cell.interval
                numbers = {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "p": cell.p}
                made.append(
                    dict(zip(self.keys, words, strict=True))
                    | {"column": column, "n": n, "difference": cell.difference}
                    | {name: value if math.isfinite(value) else None for name, value in numbers.items()}
                    | {"resolved": cell.resolved, "best": cell.best}
                )
        return made


def by_metric(groups: Sequence[Group], metrics: Sequence[str], *, baseline: Baseline, sort: str | None) -> Sheet:
    """A row for each group. With a baseline, the groups that have one show paired differences to it."""
    columns = [_column(groups, metric, baseline) for metric in metrics]
    rows = [
        ([*map(show, group.label.values()), str(len(group.runs))], [column[i] for column in columns])
        for i, group in enumerate(groups)
    ]
    if sort:
        order = sorted(range(len(groups)), key=lambda i: _worst_last(groups[i].interval(sort).mean, sort))
        rows = [rows[i] for i in order]
    return Sheet(_title(groups, baseline), [*groups[0].label, "seeds"], list(metrics), rows)


def _column(groups: Sequence[Group], metric: str, baseline: Baseline) -> list[Cell]:
    is_average = metric.split("/")[-1] in AVERAGES
    signed = metric.startswith("fast_gain") or (not is_average and any(word in metric for word in SIGNED))
    cells = [_cell(group, metric, baseline.get(i), signed=signed) for i, group in enumerate(groups)]
    # The best is told by the values themselves, also where differences are shown.
    means = [_worst_last(group.interval(metric).mean, metric) for group in groups]
    first = min(means)
    if len(groups) < 2 or first == float("inf") or metric == "cost/run/fast_state_numbers":
        return cells
    return [replace(cell, best=mean == first) for cell, mean in zip(cells, means, strict=True)]


def _cell(group: Group, metric: str, other: Group | None, *, signed: bool) -> Cell:
    if other is None:
        return Cell(group.interval(metric), signed=signed)
    differences = group.paired(other, metric)
    return Cell(t_interval(differences), difference=True, signed=signed, p=sign_flip(differences))


def _worst_last(mean: float, metric: str) -> float:
    return float("inf") if math.isnan(mean) else -better(metric) * mean


def _title(groups: Sequence[Group], baseline: Baseline) -> str:
    scenarios = ", ".join(sorted({f"{run.results.scenario}-incremental" for group in groups for run in group.runs}))
    differ = f"{len(groups)} groups that differ in {', '.join(groups[0].label)}" if len(groups) > 1 else "one group"
    title = f"{scenarios}; {differ}; mean over seeds ± half of the 95 % t-interval, sd; * leaves out zero"
    return f"{title}; with p: paired difference to the baseline, p of the sign-flip test" if baseline else title


def by_task(groups: Sequence[Group], asked: str) -> Sheet:
    """A row for each task: MODE/QUANTITY/MOMENT."""
    mode, quantity, moment = asked.split("/")
    columns = [[Cell(i) for i in group.per_task(mode, quantity, moment)] for group in groups]
    rows = [([name], cells) for name, *cells in zip(task_names(groups), *columns, strict=True)]
    return Sheet(f"{asked}; {_title(groups, {})}", ["task"], [group.name for group in groups], rows)


def by_row(groups: Sequence[Group], asked: str) -> Sheet:
    """A row after each phase: MODE/QUANTITY/METRIC as it stands there, over the tasks learned by then."""
    columns = [[Cell(i) for i in group.curve(asked)] for group in groups]
    rows = [([str(i)], list(cells)) for i, cells in enumerate(zip(*columns, strict=True))]
    title = f"{asked} after each phase, over the tasks learned by then; {_title(groups, {})}"
    return Sheet(title, ["after"], [group.name for group in groups], rows)


def task_names(groups: Sequence[Group]) -> list[str]:
    """Names where all seeds share them, else numbers: with another seed the third task is another one."""
    columns = zip(*(run.results.tasks for group in groups for run in group.runs), strict=True)
    return [names[0] if len(set(names)) == 1 else f"task {j}" for j, names in enumerate(columns, start=1)]
