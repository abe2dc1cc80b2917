"""Published values beside ours, from an experiment's `published` section:

    published:
      source: Hsu et al. 2018 (arXiv 1810.12488), 10 runs
      metric: slow/accuracy/avg_final
      values:
        - {when: task.scenario=task strategy.name=naive, mean: 0.9346, sd: 0.0201}

`when`: what a run's config must hold for the value to be about that run. `sd` may be left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ttt.compare.runs import Run
from ttt.compare.sheet import Cell, Sheet
from ttt.config.allowed import refusal
from ttt.config.messages import show, suggest
from ttt.metrics.seeds import Interval, t_interval
from ttt.results import catalogue
from ttt.results.metric import Name
from ttt.results.scores import ANSWERED, IN_BYTES, MODES, QUANTITIES, REWARDED
from ttt.results.tuning import known_metrics
from ttt.storage.read import flatten, read_config

NAN = float("nan")
# Instead of a mode, and instead of a quantity.
DERIVED, DIAGNOSED = ("fast_gain", "split", "cost"), ("regret", "plasticity", "drift", "run")


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


def check_published(section: Any) -> None:
    """Check the `published` section of an experiment; None where there is none.

    Raises ValueError in the user's words.
    """
    if section is None:
        return
    _check_section(section, where="published", needs={"source": str, "metric": str, "values": None})
    _check_metric(section["metric"])
    if not isinstance(section["values"], list):
        raise ValueError(f"published.values={show(section['values'])}: must be a list of sections")
    for i, value in enumerate(section["values"]):
        where = f"published.values[{i}]"
        _check_section(value, where=where, needs={"when": str, "mean": float}, optional={"sd": float})
        if any("=" not in word for word in value["when"].split()):
            raise ValueError(f"{where}.when={value['when']}: must be KEY=VALUE pairs, such as strategy.name=naive")


def _check_section(
    section: Any, *, where: str, needs: Mapping[str, Any], optional: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Check that a section has what it `needs` and nothing unknown, of these types (None: any)."""
    types = {**needs, **optional}
    if not isinstance(section, Mapping):
        raise ValueError(f"{where}={show(section)}: must be a section with {', '.join(types)}")
    for key, value in section.items():
        if key not in types:
            raise ValueError(f"{where}.{key}: unknown; {suggest(str(key), types)}")
        why = refusal(value, types[key]) if types[key] else ""
        if why:
            raise ValueError(f"{where}.{key}={show(value)}: {why}")
    missing = [key for key in needs if key not in section]
    if missing:
        raise ValueError(f"{where}: has no {missing[0]}; it needs {', '.join(needs)}")


def _check_metric(metric: str) -> None:
    try:
        catalogue.find(metric)
        mode, quantity, _ = Name.of(metric)
        is_known = mode in (*MODES, *DERIVED) and quantity in (*QUANTITIES, *IN_BYTES, *ANSWERED, *REWARDED, *DIAGNOSED)
    except KeyError:
        is_known = False
    if not is_known:
        # The whole list would fill a screen.
        hint = suggest(metric, known_metrics()).split("allowed:")[0]
        raise ValueError(
            f"published.metric={metric}: no such metric; {hint}must be MODE/QUANTITY/METRIC, such as "
            "slow/accuracy/avg_final"
        )


def published_values(config: Mapping[str, Any]) -> list[PublishedValue]:
    """The published values that the experiment of a run lists.

    Raises ValueError for a section that `check_published` refuses.
    """
    check_published(config.get("published"))
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

    Raises ValueError where there is none, or where a config lists what is none.
    """
    ours: dict[PublishedValue, list[float]] = {}
    for run in runs:
        config = read_config(run.folder)
        try:
            values = values_about(config)
        except ValueError as error:
            raise ValueError(f"{run.folder}: {error}") from error
        for value in values:
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
