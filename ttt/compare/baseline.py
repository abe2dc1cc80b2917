"""The groups that others are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ttt.compare.groups import Group, paired_with, values_at
from ttt.compare.runs import Run
from ttt.compare.select import differing, same_value
from ttt.config.messages import few, show, suggest


def check_baseline(runs: Sequence[Run], typed: str) -> None:
    """Raise ValueError where no run, of whatever stream, has KEY or VALUE."""
    key, equals, value = typed.partition("=")
    if not equals or not value:
        raise ValueError(f"--baseline {typed}: must be KEY=VALUE, like adapter.name=none")
    check_key(runs, key, option=f"--baseline {typed}")
    values = [run.config[key] for run in runs if key in run.config]
    if not any(same_value(each, value) for each in values):
        raise ValueError(f"--baseline {typed}: no such runs; {suggest(value, set(_shown(values)))}")


def check_key(runs: Sequence[Run], key: str, *, option: str) -> None:
    """Raise ValueError for a key that no run has."""
    if not any(key in run.config for run in runs):
        keys = differing(runs) or {key for run in runs for key in run.config}
        raise ValueError(f"{option}: no run has the key {key!r}; {suggest(key, keys)}")


def choose_baseline(groups: Sequence[Group], typed: str) -> Mapping[int, Group]:
    """Index of a group -> the group that it is compared with.

    Raises ValueError where no group of this stream has KEY=VALUE, or equals one that has in all
    else.
    """
    key, _, value = typed.partition("=")
    values = values_at(groups, key)
    if not any(same_value(each, value) for each in values):
        raise ValueError(f"--baseline {typed}: no run of this stream has {typed}; {_there_is(key, values)}")
    if key not in groups[0].label:
        raise ValueError(f"--baseline {typed}: no run of this stream has another {key} to compare with it")
    pairs = paired_with(groups, key=key, value=value)
    if not pairs:
        others = few(other for other in groups[0].label if other != key)
        raise ValueError(f"--baseline {typed}: no other group equals these runs in all else; they differ in {others}")
    return pairs


def _there_is(key: str, values: Iterable[object]) -> str:
    shown = _shown(values)
    return f"it has {few(shown)}" if shown else f"it has no {key}"


def _shown(values: Iterable[object]) -> list[str]:
    return sorted(map(show, values))
