"""The frontier: what each method learns against what it forgets, over its learning rates.

A lower learning rate alone forgets less, so one rate proves nothing; a method is a line, one point for each
rate, and better than another where its line lies further towards learning more and forgetting less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt.compare.groups import Group, headline
from ttt.compare.table import Cell, Sheet
from ttt.config.messages import show, suggest
from ttt.metrics.frontier import Point, dominated_area
from ttt.metrics.seeds import Interval, sign_flip, t_interval
from ttt.results.catalogue import better

RATE = "optimizer.lr"


def axes(groups: Sequence[Group]) -> tuple[str, str]:
    """Learning and forgetting in the mode in which the models are used."""
    first = headline(groups)
    return f"{first}/avg_learning", f"{first}/forgetting_max_seen"


@dataclass(frozen=True)
class Line:
    """One method: its groups by rate. `label` holds what sets it apart but the rate."""

    label: Mapping[str, Any]
    groups: Sequence[Group]

    @property
    def seeds(self) -> list[int]:
        """Those that have every rate of the line."""
        shared = set.intersection(*({run.seed for run in group.runs} for group in self.groups))
        return sorted(shared)

    def rates(self, key: str) -> list[Any]:
        return [group.label[key] for group in self.groups]

    def best(self, metric: str) -> Group:
        """The group whose mean of `metric` is best."""
        measured = [group for group in self.groups if group.interval(metric).mean == group.interval(metric).mean]
        return max(measured or self.groups, key=lambda group: better(metric) * group.interval(metric).mean)


@dataclass(frozen=True)
class Frontier:
    """Lines over `key` in the plane of two metrics; `reference`: the worst of both among all runs compared.

    Areas are taken seed by seed and then averaged, so that their intervals are over seeds.
    """

    lines: Sequence[Line]
    key: str
    learning: str
    forgetting: str

    @classmethod
    def of(cls, groups: Sequence[Group], *, key: str = RATE, learning: str, forgetting: str) -> Frontier:
        """Raises ValueError where the groups do not differ in `key`."""
        if key not in groups[0].label:
            raise ValueError(f"--frontier {key}: these runs do not differ in it; {suggest(key, groups[0].label)}")
        lines: dict[str, list[Group]] = {}
        for group in groups:
            rest = {k: v for k, v in group.label.items() if k != key}
            lines.setdefault(str(rest), []).append(group)
        made = [
            Line({k: v for k, v in members[0].label.items() if k != key}, sorted(members, key=lambda g: g.label[key]))
            for members in lines.values()
        ]
        return cls(made, key, learning, forgetting)

    @property
    def reference(self) -> Point:
        """Of runs that have both numbers; NaN where there is none."""
        runs = [run for line in self.lines for group in line.groups for run in group.runs]
        points = [[better(m) * run.metric(m) for m in self.metrics] for run in runs]
        kept = [point for point in points if all(map(math.isfinite, point))] or [[math.nan, math.nan]]
        return min(x for x, _ in kept), min(y for _, y in kept)

    @property
    def metrics(self) -> tuple[str, str]:
        return self.learning, self.forgetting

    def areas(self, line: Line) -> dict[int, float]:
        """seed -> dominated area, over the seeds that have every rate."""
        reference = self.reference
        found = {}
        for seed in line.seeds:
            runs = [next(run for run in group.runs if run.seed == seed) for group in line.groups]
            learning, forgetting = ([better(m) * run.metric(m) for run in runs] for m in self.metrics)
            found[seed] = dominated_area(list(zip(learning, forgetting, strict=True)), reference=reference)
        return found

    def sheet(self) -> Sheet:
        """A row for each line: its rates, its area, and that area minus the area of the first line, seed by seed."""
        all_areas = [self.areas(line) for line in self.lines]
        rows = []
        for line, areas in zip(self.lines, all_areas, strict=True):
            rates = " ".join(show(group.label[self.key]) for group in line.groups)
            # An area grows with the rates that it has.
            is_alike = line.rates(self.key) == self.lines[0].rates(self.key)
            shared = [areas[seed] - all_areas[0][seed] for seed in areas if is_alike and seed in all_areas[0]]
            more = Cell(t_interval(shared), difference=True, p=sign_flip(shared))
            area = Cell(t_interval(list(areas.values())))
            blank = Cell(Interval(float("nan"), float("nan"), 0, float("nan")))
            cells = [area, blank if line is self.lines[0] else more]
            rows.append(([*map(show, line.label.values()), rates, str(len(areas))], cells))
        x, y = self.reference
        title = (
            f"frontier: area that each line dominates in the plane of {self.learning} and {self.forgetting}, from the "
            f"worst values among these runs ({better(self.learning) * x:.3f}, {better(self.forgetting) * y:.3f})"
        )
        title += "; differences between lines over equal rates"
        return Sheet(title, [*self.lines[0].label, self.key, "seeds"], ["area", "minus the first line's"], rows)
