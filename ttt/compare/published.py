"""Published values beside ours, from an experiment's `published` section:

    published:
      source: Hsu et al. 2018 (arXiv 1810.12488), 10 runs
      metric: slow/accuracy/avg_final
      values:
        - {when: task.scenario=task strategy.name=naive optimizer.name=adamw, mean: 0.9346, sd: 0.0201}

`when`: what a run's config must be for the value to be about it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt.compare.runs import Run
from ttt.compare.table import Cell, Sheet
from ttt.config.messages import show
from ttt.metrics.seeds import Interval, t_interval
from ttt.storage.read import flatten, read_config

NAN = float("nan")


@dataclass(frozen=True)
class Value:
    """`sd`: over the runs of the publication; NaN where it gives none."""

    when: str
    metric: str
    source: str
    mean: float
    sd: float

    def is_about(self, config: Mapping[str, Any]) -> bool:
        """`config`: flat."""
        pairs = (word.partition("=") for word in self.when.split())
        return all(show(config.get(key, "")) == value for key, _, value in pairs)


def values_of(config: Mapping[str, Any]) -> list[Value]:
    """What the experiment of a run knows to be published."""
    section = config.get("published") or {}
    return [
        Value(one["when"], section["metric"], section["source"], one["mean"], one.get("sd", NAN))
        for one in section.get("values", [])
    ]


def about(config: Mapping[str, Any]) -> list[Value]:
    """Those that are about this very run."""
    flat = flatten(config)
    return [value for value in values_of(config) if value.is_about(flat)]


def agrees(ours: Interval, value: Value) -> str:
    """yes: the gap is within two published standard deviations and half of our interval. -: one of these is not
    known."""
    gap, allowed = abs(ours.mean - value.mean), 2 * value.sd + ours.half
    if math.isnan(gap) or math.isnan(allowed):
        return "-"
    return "yes" if gap <= allowed else "no"


def by_published(runs: Sequence[Run]) -> Sheet:
    """A row for each published value that some runs are about. Raises ValueError where there is none."""
    found: dict[Value, list[float]] = {}
    for run in runs:
        for value in about(read_config(run.folder)):
            found.setdefault(value, []).append(run.metric(value.metric))
    if not found:
        raise ValueError("--published: no experiment of these runs knows a published value (see conf/experiment)")
    rows = []
    for value, ours in sorted(found.items(), key=lambda item: item[0].when):
        interval = t_interval(ours)
        gap = Cell(interval._replace(mean=interval.mean - value.mean), signed=True)
        cells = [Cell(interval), Cell(Interval(value.mean, NAN, 0, value.sd)), gap]
        words = [value.when, str(len(ours)), agrees(interval, value)]
        rows.append((words, cells))
    sources = "; ".join(sorted({f"{value.metric} of {value.source}" for value in found}))
    title = f"{sources}; agrees: within two published sd and half of our 95 % t-interval, -: not known"
    return Sheet(title, ["when", "seeds", "agrees"], ["ours", "published", "ours - published"], rows)
