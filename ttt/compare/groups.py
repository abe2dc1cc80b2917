"""Many runs as few rows: runs that differ in nothing but the seed form a group, the seed is the unit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ttt.compare.runs import Run
from ttt.config.messages import show, suggest
from ttt.metrics.matrix import learned
from ttt.metrics.seeds import Interval, t_interval
from ttt.results import catalogue
from ttt.results.results import Results

MOMENTS = ("before", "learned", "final")


@dataclass(frozen=True)
class Group:
    """Runs of one method; `label` holds the config keys that set it apart from the other groups."""

    label: Mapping[str, Any]
    runs: Sequence[Run]

    @property
    def name(self) -> str:
        return name_of(self.label)

    def values(self, metric: str) -> list[float]:
        """One for each seed; NaN where a run did not measure it."""
        return [run.metric(metric) for run in self.runs]

    def interval(self, metric: str) -> Interval:
        return t_interval(self.values(metric))

    def per_task(self, mode: str, quantity: str, moment: str) -> list[Interval]:
        """For each task the value at one of MOMENTS: before the stream, right after learning, after the stream."""
        rows = [at_moment(run.results, mode, quantity, moment) for run in self.runs]
        return [t_interval(column) for column in zip(*rows, strict=True)]

    def curve(self, metric: str) -> list[Interval]:
        """The metric as it stands after each phase, over the tasks learned by then."""
        rows = [catalogue.after_each_row(run.results, metric) for run in self.runs]
        return [t_interval(column) for column in zip(*rows, strict=True)]

    def paired(self, baseline: Group, metric: str) -> list[float]:
        """This group minus `baseline` for each seed that both have: what they share cancels out."""
        theirs = dict(zip((run.seed for run in baseline.runs), baseline.values(metric), strict=True))
        ours = zip(self.runs, self.values(metric), strict=True)
        return [value - theirs[run.seed] for run, value in ours if run.seed in theirs]

    def matches(self, other: Group, *, but: str) -> bool:
        """Is `other` the same in every key but one? Keys that it does not have do not count."""
        return all(value in ("", self.label[key]) for key, value in other.label.items() if key != but)


def headline(groups: Sequence[Group]) -> str:
    """MODE/QUANTITY that is looked at first, where all runs agree on it."""
    found = {run.results.headline for group in groups for run in group.runs}
    return found.pop() if len(found) == 1 else "fast/loss"


def name_of(label: Mapping[str, Any]) -> str:
    """As one would type it: adapter=mlp_fast, optimizer.lr=0.001."""
    return ", ".join(f"{key.removesuffix('.name')}={show(value)}" for key, value in label.items()) or "all runs"


def at_moment(results: Results, mode: str, quantity: str, moment: str) -> list[float]:
    """One value for each task out of R; NaN where it was not measured."""
    r = results.matrix(mode, quantity)
    picked = {"before": r[0], "learned": learned(r, results.learned_at), "final": r[-1]}[moment]
    values: list[float] = picked.tolist()
    return values


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """One group a method. Raises ValueError where equal seeds saw different streams, or a run is there twice."""
    check_streams(runs)
    runs = _without_seeds(runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.config, sort_keys=True), []).append(run)
    keys = sorted({key for run in runs for key in run.config})
    names = [key for key in keys if key.endswith(".name") and len({run.config.get(key) for run in runs}) > 1]
    # A key that follows from the names says no more than they do: each adapter has a chunk of its own.
    told = [key for key in keys if not key.endswith(".name") and _varies(key, runs, names)]
    made = [
        Group({key: members[0].config.get(key, "") for key in [*names, *told]}, sorted(members, key=lambda r: r.seed))
        for members in groups.values()
    ]
    for group in made:
        for first, second in pairwise(group.runs):
            if first.seed == second.seed:
                raise ValueError(
                    f"{first.folder} and {second.folder} are both seed {first.seed} of one method: pick one"
                )
    return sorted(made, key=lambda group: [_order(value) for value in group.label.values()])


def _without_seeds(runs: Sequence[Run]) -> Sequence[Run]:
    """A base seed that is the run's own everywhere (base.seed=${seed}) sets no method apart."""
    if any(run.config.get("base.seed", run.seed) != run.seed for run in runs):
        return runs
    return [replace(run, config={k: v for k, v in run.config.items() if k != "base.seed"}) for run in runs]


def _varies(key: str, runs: Sequence[Run], names: Sequence[str]) -> bool:
    """Does `key` tell apart runs that share all `names`, or a name that all share by what it is used with?"""
    values: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        if key in run.config:
            # The learning rate of one adapter and that of another are the same key of the same optimizer.
            own = [name for name in names if name.split(".")[0] == key.split(".")[0]]
            values.setdefault(tuple(str(run.config.get(name)) for name in own), set()).add(str(run.config[key]))
    return any(len(found) > 1 for found in values.values())


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def paired_with(groups: Sequence[Group], *, key: str, value: str) -> dict[int, Group]:
    """Index of a group -> the group that has `value` at `key` and equals it in all else; those themselves have none."""
    bases = [group for group in groups if str(group.label[key]) == value]
    found = {i: [base for base in bases if group.matches(base, but=key)] for i, group in enumerate(groups)}
    return {i: match[0] for i, match in found.items() if match and match[0] is not groups[i]}


def where(runs: Sequence[Run], wanted: Sequence[str]) -> list[Run]:
    """Runs that have one of the values of each KEY=VALUE[,VALUE]. Raises ValueError for what no run has."""
    kept = list(runs)
    for typed in wanted:
        key, _, text = typed.partition("=")
        if not any(key == "seed" or key in run.config for run in runs):
            raise ValueError(f"--where {typed}: no run has the key {key!r}; {suggest(key, _differing(runs))}")
        values = text.split(",")
        for value in values:
            if not any(_is(run, key, value) for run in runs):
                have = {show(_value(run, key)) for run in runs}
                raise ValueError(f"--where {typed}: no run has {key}={value}; {suggest(value, have)}")
        kept = [run for run in kept if any(_is(run, key, value) for value in values)]
    if not kept:
        raise ValueError(f"--where {' '.join(wanted)}: no run has all of these")
    return kept


def _value(run: Run, key: str) -> Any:
    return run.seed if key == "seed" else run.config.get(key, "")


def _is(run: Run, key: str, typed: str) -> bool:
    """1e-3 is 0.001."""
    value = _value(run, key)
    try:
        return float(typed) == value or show(value) == typed
    except ValueError:
        return show(value) == typed


def _differing(runs: Sequence[Run]) -> list[str]:
    keys = {key for run in runs for key in run.config}
    return ["seed", *(key for key in keys if len({show(_value(run, key)) for run in runs}) > 1)]


def check_streams(runs: Sequence[Run]) -> None:
    """Raises ValueError where equal seeds of one task and source saw different streams, and says what differs."""
    seen: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        other = seen.setdefault((run.seed, run.config.get("task.name"), run.config.get("source.name")), run)
        if other.results.fingerprints != run.results.fingerprints:
            keys = _differing_keys(run, other)
            told = ", ".join(f"{key}={show(other.config.get(key))} and {show(run.config.get(key))}" for key in keys)
            hint = f"; to pick one: --where {keys[0]}={show(other.config.get(keys[0]))}" if keys else ""
            raise ValueError(
                f"{other.folder} and {run.folder} have seed {run.seed} but saw different streams "
                f"({told or 'the data behind them differ'}): their numbers do not compare{hint}"
            )


def _differing_keys(run: Run, other: Run) -> list[str]:
    """The config keys that made two streams different; none where the data did."""
    return sorted(
        key
        for key in {*run.config, *other.config}
        if key.split(".")[0] in ("task", "source", "base") and run.config.get(key) != other.config.get(key)
    )
