"""The frontier: what each method learns against what it forgets, over its learning rates.

A lower learning rate alone forgets less, so one rate proves nothing. A method is a line with one
point for each rate, and is better than another where its line lies further towards learning more
and forgetting less.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt.compare.groups import Group, headline, sort_key, values_at
from ttt.compare.sheet import Cell, Sheet
from ttt.compare.statistics import interval_over
from ttt.config.messages import few, show
from ttt.metrics.frontier import Point, dominated_area
from ttt.metrics.seeds import Interval, sign_flip
from ttt.results.catalogue import better

RATE = "optimizer.lr"
NAN = float("nan")
# What tells the runs of a method apart, see Run.unit.
Unit = tuple[Hashable, int]
# The first line is compared with nothing.
BLANK = Cell(Interval(NAN, NAN, 0, NAN))


def default_axes(groups: Sequence[Group]) -> tuple[str, str]:
    """Learning and forgetting in the mode in which the models are used."""
    first = headline(groups)
    return f"{first}/avg_learning", f"{first}/forgetting_max_seen"


@dataclass(frozen=True)
class Line:
    """One method: its groups by rate. `label`: what sets the method apart, without the rate."""

    label: Mapping[str, Any]
    groups: Sequence[Group]

    @property
    def units(self) -> list[Unit]:
        """The seeds (and bases, where these are pooled) that have every rate of the line."""
        # A seed that lacks a rate would have a smaller area for that reason alone.
        shared = set.intersection(*({run.unit for run in group.runs} for group in self.groups))
        return [run.unit for run in self.groups[0].runs if run.unit in shared]

    def interval(self, values: Mapping[Unit, float]) -> Interval:
        """One number of some of these seeds with its interval."""
        group = self.groups[0]
        runs = [run for run in group.runs if run.unit in values]
        return interval_over(runs, [values[run.unit] for run in runs], by=group.by)

    def rates(self, key: str) -> list[Any]:
        return [group.label[key] for group in self.groups]

    def best(self, metric: str) -> Group:
        """The group whose mean of `metric` is best."""
        # A rate at which training failed must not be chosen: NaN would win or lose by its place.
        measured = [group for group in self.groups if not math.isnan(group.interval(metric).mean)]
        return max(measured or self.groups, key=lambda group: better(metric) * group.interval(metric).mean)


@dataclass(frozen=True)
class Frontier:
    """Lines over `key` in the plane of two metrics.

    Areas are taken seed by seed and then averaged, so that their intervals are over seeds.
    """

    lines: Sequence[Line]
    key: str
    learning: str
    forgetting: str

    @classmethod
    def of(cls, groups: Sequence[Group], *, key: str = RATE, learning: str, forgetting: str) -> Frontier:
        """Sort groups into lines. Raises ValueError where they differ in no numbers at `key`."""
        _check_rates(groups, key)
        members: dict[str, list[Group]] = {}
        for group in groups:
            # A label is a dict and cannot be a key; its text can.
            members.setdefault(str(_without(key, group)), []).append(group)
        lines = [
            Line(_without(key, alike[0]), sorted(alike, key=lambda group: sort_key(group.label[key])))
            for alike in members.values()
        ]
        return cls(lines, key, learning, forgetting)

    @property
    def metrics(self) -> tuple[str, str]:
        return self.learning, self.forgetting

    @property
    def reference(self) -> Point:
        """The worst of both metrics among all runs that have both numbers, oriented.

        NaN where no run has both. All lines share one reference: an area means nothing without it.
        """
        runs = [run for line in self.lines for group in line.groups for run in group.runs]
        # Points are oriented: higher is better on both axes, whichever way the metrics point.
        points = [[better(m) * run.metric(m) for m in self.metrics] for run in runs]
        measured = [point for point in points if all(map(math.isfinite, point))] or [[NAN, NAN]]
        return min(x for x, _ in measured), min(y for _, y in measured)

    def areas(self, line: Line) -> dict[Unit, float]:
        """seed -> dominated area, for the seeds that have every rate."""
        reference = self.reference
        areas = {}
        # Seed by seed, so that a seed with hard tasks does not lower one line and not another.
        for unit in line.units:
            runs = [next(run for run in group.runs if run.unit == unit) for group in line.groups]
            learning, forgetting = ([better(m) * run.metric(m) for run in runs] for m in self.metrics)
            areas[unit] = dominated_area(list(zip(learning, forgetting, strict=True)), reference=reference)
        return areas

    def records(self) -> list[dict[str, object]]:
        """The points of its picture, for CSV: both metrics of every method at every rate."""
        return [
            {**line.label, self.key: group.label[self.key], "metric": metric, "n": x.n, "mean": x.mean}
            | {"low": x.low, "high": x.high, "sd": x.sd}
            for line in self.lines
            for group in line.groups
            for metric in self.metrics
            for x in [group.interval(metric)]
        ]

    def sheet(self) -> Sheet:
        """A row for each line: its rates, its area, and that area minus the first line's.

        The difference is taken seed by seed.
        """
        first = self.areas(self.lines[0])
        rows = []
        for line in self.lines:
            areas = self.areas(line)
            pairs = self._pairs(line, first)
            differences = {unit: areas[unit] - first[unit] for unit in pairs}
            difference = Cell(line.interval(differences), difference=True, p=sign_flip(list(differences.values())))
            cells = [Cell(line.interval(areas)), BLANK if line is self.lines[0] else difference]
            rates = " ".join(map(show, line.rates(self.key)))
            rows.append(([*map(show, line.label.values()), rates, _seeds(len(areas), len(pairs))], cells))
        keys = [*self.lines[0].label, self.key, "seeds"]
        legend = ["area ± half of the 95 % t-interval over seeds", "differences to the first line, over equal rates"]
        return Sheet(self._title(), keys, ["area", "minus the first line's"], rows, legend=legend)

    def _pairs(self, line: Line, first: Mapping[Unit, float]) -> list[Unit]:
        """The seeds in which a line is compared with the first.

        None where their rates differ: an area grows with every rate that is added.
        """
        is_alike = line.rates(self.key) == self.lines[0].rates(self.key)
        return [unit for unit in line.units if is_alike and unit in first]

    def _title(self) -> str:
        x, y = self.reference
        return (
            f"frontier: area that each line dominates in the plane of {self.learning} and {self.forgetting}, from the "
            f"worst values among these runs ({better(self.learning) * x:.3f}, {better(self.forgetting) * y:.3f})"
        )


def _check_rates(groups: Sequence[Group], key: str) -> None:
    """Raise ValueError where the groups cannot be put in a row along `key`."""
    values = values_at(groups, key)
    numeric = [name for name in groups[0].label if all(map(_is_number, values_at(groups, name)))]
    near = f"; numbers in which these runs differ: {', '.join(numeric)}" if numeric else ""
    if not values:
        raise ValueError(f"--frontier {key}: no run of this stream has it{near}")
    if key not in groups[0].label:
        raise ValueError(
            f"--frontier {key}: its only value in this stream is {show(values[0])}, and a line needs several{near}"
        )
    if not all(map(_is_number, values)):
        raise ValueError(f"--frontier {key}: its values are no numbers ({few(sorted(map(show, values)))}){near}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seeds(areas: int, pairs: int) -> str:
    """How many seeds stand behind an area, and behind its difference where that has fewer."""
    return f"{areas}, difference {pairs}" if 0 < pairs < areas else str(areas)


def _without(key: str, group: Group) -> dict[str, Any]:
    return {k: v for k, v in group.label.items() if k != key}
