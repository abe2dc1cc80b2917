"""Many runs as few rows: runs that differ only in the seed form a group; the seed is the unit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from ttt.compare.runs import Run
from ttt.compare.select import check_streams, same_value
from ttt.compare.statistics import IntervalBy, difference_of, interval_of, interval_over, p_of
from ttt.compare.tokens import differ_in_tokens, in_bytes
from ttt.compare.tuned import reporting
from ttt.config.messages import show
from ttt.metrics.matrix import learned
from ttt.metrics.seeds import Interval
from ttt.results import catalogue
from ttt.results.results import Results

NAN = float("nan")
MOMENTS = ("before", "learned", "final")


@dataclass(frozen=True)
class Group:
    """Runs of one method; `label` holds the config keys that set it apart from the other groups.

    `by`: where intervals come from, see `ttt.compare.statistics`.
    """

    label: Mapping[str, Any]
    runs: Sequence[Run]
    by: IntervalBy = "t"
    # A table looks at each of its intervals several times.
    _intervals: dict[str, Interval] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        return name_of(self.label)

    def values(self, metric: str) -> list[float]:
        """The metric of each run; NaN where a run did not measure it."""
        return [run.metric(metric) for run in self.runs]

    def interval(self, metric: str) -> Interval:
        """The 95 % interval of a metric."""
        if metric not in self._intervals:
            self._intervals[metric] = interval_of(self.counted(metric), metric, by=self.by)
        return self._intervals[metric]

    def difference(self, baseline: Group, metric: str) -> Interval:
        """This group minus `baseline` over the runs that both have."""
        return difference_of(*self._pairs(baseline, metric), metric, by=self.by)

    def p(self, baseline: Group, metric: str) -> float:
        """The p of that difference by the sign-flip test."""
        return p_of(*self._pairs(baseline, metric), metric)

    def _pairs(self, baseline: Group, metric: str) -> tuple[list[Run], list[Run]]:
        # How hard a stream is depends on its seed; a difference within a seed is free of that.
        theirs = {run.unit: run for run in baseline.counted(metric)}
        ours = [run for run in self.counted(metric) if run.unit in theirs]
        return ours, [theirs[run.unit] for run in ours]

    def counted(self, metric: str) -> list[Run]:
        """The runs that have a task which the metric counts."""
        return [run for run in self.runs if run.is_about(metric)]

    def over_runs(self, values: Sequence[float]) -> Interval:
        """The 95 % interval of one number of each run."""
        return interval_over(self.runs, values, by=self.by)

    def per_task(self, mode: str, quantity: str, moment: str) -> list[Interval]:
        """The value on each task at one of MOMENTS.

        `before` the stream, when it was just `learned`, and `final`: after the stream.
        """
        rows = [at_moment(run.results, mode, quantity, moment) for run in self.runs]
        return [self.over_runs(column) for column in zip(*rows, strict=True)]

    def curve(self, metric: str) -> list[Interval]:
        """The metric after each phase, over the tasks learned by then."""
        rows = [catalogue.after_each_row(run.results, metric) for run in self.runs]
        return [self.over_runs(column) for column in zip(*rows, strict=True)]

    def shared_seeds(self, other: Group) -> int:
        """How many seeds both groups have: that many pairs a difference between them has."""
        return len({run.unit for run in self.runs} & {run.unit for run in other.runs})

    def matches(self, other: Group, *, but: str) -> bool:
        """Is `other` the same in every key but one? Keys that `other` does not have are ignored."""
        return all(value in ("", self.label[key]) for key, value in other.label.items() if key != but)


def headline(groups: Sequence[Group]) -> str:
    """MODE/QUANTITY that a reader looks at first; fast/loss where the runs do not agree on it.

    Between different tokenizers it is the loss per byte.
    """
    runs = [run for group in groups for run in group.runs]
    if differ_in_tokens(runs):
        return "fast/bits_per_byte"
    # Policies and learners in one comparison have the loss in common.
    headlines = {run.results.headline for run in runs}
    return headlines.pop() if len(headlines) == 1 else "fast/loss"


def name_of(label: Mapping[str, Any]) -> str:
    """A label as one would type it: adapter=mlp_fast, optimizer.lr=0.001."""
    return ", ".join(f"{key.removesuffix('.name')}={show(value)}" for key, value in label.items()) or "all runs"


def at_moment(results: Results, mode: str, quantity: str, moment: str) -> list[float]:
    """The value on each task at one of MOMENTS, out of R; NaN where it was not measured."""
    # A mode that other runs in the comparison have: nothing is carried without an adapter.
    if mode not in results.modes or quantity not in results.quantities:
        return [NAN] * len(results.tasks)
    r = results.matrix(mode, quantity)
    picked = {"before": r[0], "learned": learned(r, results.learned_at), "final": r[-1]}[moment]
    values: list[float] = picked.tolist()
    return values


def group_runs(runs: Sequence[Run], *, by: IntervalBy = "t") -> list[Group]:
    """Sort runs into groups, one for each method.

    A bootstrap knows bases: runs of one method on several bases are one group then. Raises
    ValueError where equal seeds saw different streams, or a seed of a method is there twice.
    """
    # Runs on which hyper-parameters were chosen would
    # make the chosen ones look better than they are.
    runs = reporting(runs)
    check_streams(runs)
    runs = in_bytes(pooled_over_bases(runs) if by == "bootstrap" else _without_base_seeds(runs))
    # Equal configs, written the same way, are one method: a config is a dict and cannot be a key.
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(json.dumps(run.config, sort_keys=True), []).append(run)
    # What all runs share is left out of their labels.
    keys = _telling_keys(runs)
    groups = [
        Group({key: alike[0].config.get(key, "") for key in keys}, sorted(alike, key=lambda run: run.seed), by)
        for alike in members.values()
    ]
    for group in groups:
        _check_seeds(group)
    return sorted(groups, key=lambda group: [sort_key(value) for value in group.label.values()])


def pooled_over_bases(runs: Sequence[Run]) -> list[Run]:
    """Runs that know their base by its seed, and differ in no config by it."""
    return [replace(run, base=run.config.get("base.seed"), config=_without(run.config, "base.seed")) for run in runs]


def _without_base_seeds(runs: Sequence[Run]) -> Sequence[Run]:
    """Drop `base.seed` from runs with equal `base.name` if it is the run's own seed in all of them.

    It then sets no two methods apart. Otherwise it does, also for `base=none`, whose random weights
    are drawn from it.
    """
    other = {run.config.get("base.name") for run in runs if run.config.get("base.seed", run.seed) != run.seed}
    return [
        run if run.config.get("base.name") in other else replace(run, config=_without(run.config, "base.seed"))
        for run in runs
    ]


def _without(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != key}


def _telling_keys(runs: Sequence[Run]) -> list[str]:
    """The config keys that set methods apart: names first, then what differs besides."""
    keys = sorted({key for run in runs for key in run.config})
    names = [key for key in keys if key.endswith(".name") and len({run.config.get(key) for run in runs}) > 1]
    # Each adapter has its own default chunk: such a key would only repeat the names.
    return [*names, *(key for key in keys if not key.endswith(".name") and _varies(key, runs, names))]


def _varies(key: str, runs: Sequence[Run], names: Sequence[str]) -> bool:
    """Does `key` differ between runs that share every name of its own config group?

    `optimizer.lr` belongs to the optimizer: two rates of one optimizer set runs apart, whatever
    their adapters are.
    """
    # Runs of one sweep share nearly all of their values, which need not be compared.
    first = runs[0].config.get(key)
    if all(run.config.get(key) is first for run in runs):
        return False
    group = [name for name in names if name.split(".")[0] == key.split(".")[0]]
    values: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        if key in run.config:
            values.setdefault(tuple(str(run.config.get(name)) for name in group), set()).add(str(run.config[key]))
    return any(len(seen) > 1 for seen in values.values())


def _check_seeds(group: Group) -> None:
    for first, second in pairwise(sorted(group.runs, key=lambda run: (run.seed, str(run.base)))):
        if first.unit == second.unit:
            raise ValueError(f"{first.folder} and {second.folder} are both seed {first.seed} of one method: pick one")


def sort_key(value: Any) -> tuple[bool, float, str]:
    """A sort key that puts numbers by size, before words."""
    # "10" sorts before "2" as a word; rates and sizes are numbers.
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def values_at(groups: Sequence[Group], key: str) -> list[object]:
    """The values of a key in these groups, each once; none where no run has the key."""
    values = [group.label.get(key, group.runs[0].config.get(key, "")) for group in groups]
    return list({show(value): value for value in values if value != ""}.values())


def paired_with(groups: Sequence[Group], *, key: str, value: str) -> dict[int, Group]:
    """Index of a group -> the group that has `value` at `key` and equals it in all else.

    Groups that have `value` themselves are left out: they are what others are compared with.
    """
    bases = [group for group in groups if same_value(group.label[key], value)]
    matches = {i: [base for base in bases if group.matches(base, but=key)] for i, group in enumerate(groups)}
    return {i: match[0] for i, match in matches.items() if match and match[0] is not groups[i]}
