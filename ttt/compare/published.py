"""Published values beside ours, from an experiment's `published` section:

    published:
      source: Hsu et al. 2018 (arXiv 1810.12488), 10 runs
      metric: slow/accuracy/avg_final
      values:
        - {when: task.scenario=task strategy.name=naive, mean: 0.9346, sd: 0.0201}

`when`: what a run's config must hold for the value to be about that run.
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
class PublishedValue:
    """A mean from a publication. `sd`: over the publication's runs; NaN where it gives none."""

    when: str
    metric: str
    source: str
    mean: float
    sd: float

    def is_about(self, config: Mapping[str, Any]) -> bool:
        """Does the flat `config` of a run hold all that the value is about?"""
        pairs = (word.partition("=") for word in self.when.split())
        return all(show(config.get(key, "")) == value for key, _, value in pairs)


def published_values(config: Mapping[str, Any]) -> list[PublishedValue]:
    """The published values that the experiment of a run lists."""
    # Null where the experiment lists nothing.
    section = config.get("published") or {}
    return [
        PublishedValue(value["when"], section["metric"], section["source"], value["mean"], value.get("sd", NAN))
        for value in section.get("values", [])
    ]


def values_about(config: Mapping[str, Any]) -> list[PublishedValue]:
    """The published values that are about this very run."""
    flat = flatten(config)
    return [value for value in published_values(config) if value.is_about(flat)]


def agrees(ours: Interval, value: PublishedValue) -> str:
    """Return `yes` if the gap is within two published sd plus half of our interval, else `no`.

    `-` where one of the numbers is missing.
    """
    gap, allowed = abs(ours.mean - value.mean), 2 * value.sd + ours.half
    if math.isnan(gap) or math.isnan(allowed):
        return "-"
    return "yes" if gap <= allowed else "no"


def by_published(runs: Sequence[Run]) -> Sheet:
    """A row for each published value that is about some of the runs.

    Raises ValueError where there is none.
    """
    ours: dict[PublishedValue, list[float]] = {}
    for run in runs:
        for value in values_about(read_config(run.folder)):
            ours.setdefault(value, []).append(run.metric(value.metric))
    if not ours:
        raise ValueError("--published: no experiment of these runs lists a published value (see conf/experiment)")
    rows = [_row(value, numbers) for value, numbers in sorted(ours.items(), key=lambda item: item[0].when)]
    sources = "; ".join(sorted({f"{value.metric} of {value.source}" for value in ours}))
    title = f"{sources}; agrees: within two published sd and half of our 95 % t-interval, -: not known"
    return Sheet(title, ["when", "seeds", "agrees"], ["ours", "published", "ours - published"], rows)


def _row(value: PublishedValue, ours: Sequence[float]) -> tuple[list[str], list[Cell]]:
    interval = t_interval(ours)
    # Only our own spread is in the interval of the gap: a publication rarely gives its seeds.
    gap = Cell(interval._replace(mean=interval.mean - value.mean), signed=True)
    cells = [Cell(interval), Cell(Interval(value.mean, NAN, 0, value.sd)), gap]
    return [value.when, str(len(ours)), agrees(interval, value)], cells
