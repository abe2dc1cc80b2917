"""The groups that others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ttt.compare.groups import Group, paired_with
from ttt.config.messages import suggest


def choose_baseline(groups: Sequence[Group], typed: str) -> Mapping[int, Group]:
    """Index of a group -> the group that it is compared with.

    Raises ValueError where KEY or VALUE is unknown.
    """
    key, _, value = typed.partition("=")
    if key not in groups[0].label:
        raise ValueError(f"--baseline {typed}: these runs differ in other keys; {suggest(key, groups[0].label)}")
    values = {str(group.label[key]) for group in groups}
    if value not in values:
        raise ValueError(f"--baseline {typed}: no such runs; {suggest(value, values)}")
    return paired_with(groups, key=key, value=value)
