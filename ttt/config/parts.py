"""Which classes a group of the config may name in `_target_`: those of its own kind alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import yaml


class Kind(NamedTuple):
    """Classes of one kind: the `room` of ttt in which they lie, and `methods` that tell them apart.

    `protocol`: the path of the class that says what each of them must have; empty where none does.
    """

    room: str
    methods: tuple[str, ...]
    protocol: str = ""


KINDS = {
    "adapter": Kind("ttt.adapters", ("attach", "initial", "read"), "ttt.adapters.base.Adapter"),
    "base": Kind("ttt.bases", ("weights",), "ttt.bases.base.Base"),
    "logger": Kind("ttt.sinks", ("start", "finish"), "ttt.sinks.base.Sink"),
    "model": Kind("ttt.models", ("forward", "named_parameters")),
    "objective": Kind("ttt.objectives", ("loss", "begin"), "ttt.objectives.base.Objective"),
    "optimizer": Kind("ttt.optimizers", ("build",), "ttt.learner.learner.OptimizerFactory"),
    "source": Kind("ttt.tasks", ("draw", "evaluation", "families"), "ttt.stream.stream.Source"),
    "strategy": Kind("ttt.strategies", ("attach", "begin_task", "end_task"), "ttt.strategies.base.Strategy"),
    "task": Kind("ttt.tasks", ("build",)),
    "trainer": Kind("ttt.devices", ("fabric",)),
}
# Groups that take a part of another group.
SAME = {"also": "strategy", "base_source": "source"}


def refuse_place(path: str, *, group: str) -> str:
    """Why a class of ttt at this path is no part of the group; empty where it may be.

    No code of its module runs for that.
    """
    name = _group_of(group)
    kind = KINDS[name]
    home = shipped().get(path)
    if home in (None, name) and path.startswith(f"{kind.room}."):
        return ""
    belongs = f"belongs to {home}; " if home else ""
    return f"{belongs}{_wanted(name)}"


def refuse_class(target: type, *, group: str) -> str:
    """Why a class is no part of the group; empty where it is."""
    name = _group_of(group)
    missing = [method for method in KINDS[name].methods if not callable(getattr(target, method, None))]
    if missing:
        return f"{_wanted(name)}; {target.__name__} lacks {', '.join(missing)}"
    # A protocol has the methods, and no code.
    return _wanted(name) if getattr(target, "_is_protocol", False) else ""


def protocol_of(group: str) -> str:
    """The path of the class that says what each part of the group must have; empty for none."""
    return KINDS[_group_of(group)].protocol


def _wanted(name: str) -> str:
    kind = KINDS[name]
    return f"{name} takes a class of {kind.room}, or one of your own, with {', '.join(kind.methods)}"


def _group_of(group: str) -> str:
    """The group of the config whose kind a class in the section `group` is of."""
    first = group.partition(".")[0]
    return SAME.get(first, first)


@cache
def shipped() -> dict[str, str]:
    """Class -> group, for what our own YAMLs name."""
    homes: dict[str, str] = {}
    for name in KINDS:
        for content in _contents(files("ttt.conf") / name):
            section = content.get(name, content)
            # A YAML may only take over another one, as data do that are kept elsewhere.
            if "_target_" in section:
                homes[section["_target_"]] = name
    return homes


def _contents(folder: Traversable) -> Iterator[dict[str, Any]]:
    for file in folder.iterdir():
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) if file.is_file() else None
        if isinstance(content, dict):
            yield content
