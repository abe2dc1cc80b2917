"""From a resolved config to objects, refusing in one line what does not fit.

A group's YAML names its class in `_target_`; the class's annotations say what each argument may be.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ttt.config.allowed import describe, kind_of, refusal
from ttt.config.faults import fault_of_module
from ttt.config.members import check_class, check_part
from ttt.config.messages import show, suggest
from ttt.config.parts import refuse_class, refuse_place

# What a YAML leaves to whoever types the command. Models say themselves which names there are.
MISSING = "???"
# Classes that lay elsewhere in version 0.1: its run folders name them in their config.yaml.
ALIASES = {"ttt.trainer.TrainerSettings": "ttt.devices.settings.TrainerSettings"}


def build(
    config: Mapping[str, Any],
    *,
    group: str,
    given: Mapping[str, Any],
    trusted: Iterable[Path],
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """Call the class that `config` names with its other keys, `given`, and what it takes of
    `offered`, from which the classes inside it take too.

    Raises ValueError in the user's words: unknown argument, wrong type, value that is not allowed,
    or a target that is no part of this group, or neither ours nor defined below one of the
    `trusted` folders.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"{group}={show(config)}: must be a section that names a class in _target_")
    target = locate(str(config.get("_target_", "")), group=group, trusted=trusted)
    arguments = {key: value for key, value in config.items() if key != "_target_"} | dict(given)
    offered = offered or {}
    arguments = {
        key: _nested(value, group=f"{group}.{key}", trusted=trusted, offered=offered)
        for key, value in arguments.items()
    }
    typed = f"{group}={arguments.get('name')}"
    check_class(target, typed=typed)
    part = construct(target, arguments, group=group, offered=offered)
    # Inside a part of the user's own, other things may be built as well.
    if "." not in group:
        check_part(part, group=group, typed=typed)
    return part


def construct(
    target: type, arguments: Mapping[str, Any], *, group: str, offered: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    """Call `target` with `arguments` and what it takes of `offered`.

    Raises ValueError, by the name of the group, for what its annotations do not allow.
    """
    parameters = inspect.signature(target).parameters
    taken = {name: value for name, value in offered.items() if name in parameters}
    open_names = [name for name in parameters if name not in taken]
    # A dataclass inherits fields, whose annotations resolve only in the module of each base.
    annotated = target if dataclasses.is_dataclass(target) else target.__init__  # type: ignore[misc]
    hints = typing.get_type_hints(annotated, include_extras=True)
    for key, value in arguments.items():
        if key not in open_names:
            raise ValueError(f"{group}.{key}={value}: unknown; {suggest(key, open_names)}")
        if value == MISSING and key != "name":
            kind = f" ({describe(hints[key])})" if key in hints else ""
            raise ValueError(f"{group}.{key}: missing; type {group}.{key}=VALUE{kind}")
        why = refusal(value, hints.get(key, object))
        if why:
            raise ValueError(f"{group}.{key}={show(value)}: {why}")
    # YAML reads 1 as an integer; a class that wants a number gets 1.0.
    arguments = {key: float(value) if kind_of(hints.get(key)) is float else value for key, value in arguments.items()}
    required = [name for name in open_names if parameters[name].default is inspect.Parameter.empty]
    missing = [name for name in required if name not in arguments]
    if missing:
        raise ValueError(f"{group}.{missing[0]}: missing; {group}={arguments.get('name')} needs it")
    return target(**arguments, **taken)


def _nested(value: Any, *, group: str, trusted: Iterable[Path], offered: Mapping[str, Any]) -> Any:
    """Build each mapping that names a class, at any depth of mappings; lists are not searched.

    A source may be made of sources.
    """
    if not isinstance(value, Mapping):
        return value
    if "_target_" in value:
        return build(value, group=group, given={}, trusted=trusted, offered=offered)
    return {
        key: _nested(inner, group=f"{group}.{key}", trusted=trusted, offered=offered) for key, inner in value.items()
    }


def locate(path: str, *, group: str, trusted: Iterable[Path]) -> type:
    """The class at a dotted path, of the kind that the group takes.

    Code from elsewhere is not run, nor ours that is no part of the group: a config may come from a
    stranger.
    """
    path = ALIASES.get(path, path)
    module_name, _, name = path.rpartition(".")
    is_ours = module_name.startswith("ttt.")
    why = refuse_place(path, group=group) if is_ours else ""
    if why:
        raise ValueError(f"{group}._target_={path}: {why}")
    if not is_ours:
        file = module_name.replace(".", "/") + ".py"
        if not module_name or not any((folder / file).is_file() for folder in trusted):
            raise ValueError(
                f"{group}._target_={path}: must be a class of ttt, or of a module in the folder of --config-dir"
            )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # Whatever a module of the user's does when it is imported, the reason is there.
        raise ValueError(f"{group}._target_={path}: {fault_of_module(error, trusted)}") from error
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
        raise ValueError(f"{group}._target_={path}: {module_name} has no {name!r}; {suggest(name, classes)}")
    target = getattr(module, name)
    # A name that a module only imported does not count: a config could reach any class at all.
    if not inspect.isclass(target) or target.__module__ != module_name:
        raise ValueError(f"{group}._target_={path}: not a class defined there")
    # Inside a part of the user's own, other things may be built as well.
    why = refuse_class(target, group=group) if is_ours or "." not in group else ""
    if why:
        raise ValueError(f"{group}._target_={path}: {why}")
    return target
