"""What a part lacks of what every part of its group must have, in one line.

adapter=mine: BiasFast lacks carry(state), runs_on; see ttt/adapters/base.py
adapter=mine: BiasFast.carry takes (), not (state); see ttt/adapters/base.py
strategy=mine: Leash is no subclass of Strategy; see ttt/strategies/base.py
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from ttt.config.allowed import refusal
from ttt.config.messages import show
from ttt.config.parts import protocol_of


def check_class(target: type, *, typed: str) -> None:
    """Raise ValueError for a class that leaves open what its base wants of it.

    `typed` is the part as it was typed, adapter=mine.
    """
    open_names = sorted(getattr(target, "__abstractmethods__", ()))
    if open_names:
        members = [getattr(target, name) for name in open_names]
        place = next((member.__module__ for member in members if callable(member)), target.__module__)
        raise ValueError(f"{typed}: {target.__name__} lacks {_listed(target, open_names)}; see {_file(place)}")


def check_part(part: object, *, group: str, typed: str) -> None:
    """Raise ValueError for a part that is not all that its group needs."""
    path = protocol_of(group)
    if not path:
        return
    module, _, name = path.rpartition(".")
    protocol = getattr(import_module(module), name)
    why = _why_not(part, protocol)
    if why:
        raise ValueError(f"{typed}: {type(part).__name__}{why}; see {_file(module)}")


def _why_not(part: object, protocol: type) -> str:
    if not _is_protocol(protocol) and not isinstance(part, protocol):
        return f" is no subclass of {protocol.__name__}"
    # Every part has a name; the other members are those that the protocol lists.
    members = dict.fromkeys(["name", *inspect.get_annotations(protocol), *vars(protocol)])
    names = [name for name in members if not name.startswith("_") or name == "__call__"]
    lacking = [name for name in names if not _has(part, name, protocol)]
    if lacking:
        return f" lacks {_listed(protocol, lacking)}"
    for name in names:
        wanted = vars(protocol).get(name)
        if inspect.isfunction(wanted) and not _takes(getattr(part, name), wanted):
            return f".{name} takes {_shown(_parameters(getattr(part, name)))}, not {_shown(_parameters(wanted)[1:])}"
    for name, hint in typing.get_type_hints(protocol).items():
        why = refusal(getattr(part, name), hint) if typing.get_origin(hint) is typing.Literal else ""
        if why:
            return f".{name}={show(getattr(part, name))}: {why}"
    return ""


def _has(part: object, name: str, protocol: type) -> bool:
    code = vars(protocol).get(name)
    # The class first: asking a part for a property would compute it.
    member = getattr(type(part), name, None)
    if member is None and not inspect.isfunction(code):
        return hasattr(part, name)
    # A class that names the protocol as its base inherits methods without code.
    is_stub = _is_protocol(protocol) and member is code
    return not is_stub and (not inspect.isfunction(code) or callable(getattr(part, name, None)))


def _is_protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False))


def _takes(method: Callable[..., Any], wanted: Callable[..., Any]) -> bool:
    """Can `method` be called with what `wanted`, which has a self, takes?"""
    parameters = _parameters(wanted)[1:]
    by_name = {parameter.name: None for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    try:
        inspect.signature(method).bind(*[None] * (len(parameters) - len(by_name)), **by_name)
    except TypeError:
        return False
    return True


def _listed(owner: type, names: Iterable[str]) -> str:
    members = {name: getattr(owner, name, None) for name in names}
    return ", ".join(
        f"{name}{_shown(_parameters(member)[1:])}" if inspect.isfunction(member) else name
        for name, member in members.items()
    )


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _shown(parameters: Iterable[inspect.Parameter]) -> str:
    """Arguments as one would type them: (state), or (model, *, write)."""
    return str(inspect.Signature([x.replace(annotation=inspect.Parameter.empty) for x in parameters]))


def _file(module: str) -> str:
    """Where a module of ours lies in the project; another one lies below the user's folder."""
    return module.removeprefix("ttt." if module.startswith("ttt.tasks.") else "").replace(".", "/") + ".py"
