"""Is what was read from a file of the kinds that it should be? An annotation says which these are.

    rows: list[Row]              a list of objects with the keys of a TypedDict or a dataclass
    scores: dict[str, float]     an object with any keys, and a number, or null, for each

Raised nowhere: `mismatch` returns where and what, in words that follow "FILE: ".
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import NoneType
from typing import Any

from ttt.config.allowed import NAMES, is_union

# JSON has no NaN: null stands for a number that was not measured.
PLAIN: dict[Any, frozenset[type]] = {
    int: frozenset({int}),
    float: frozenset({int, float, NoneType}),
    str: frozenset({str}),
    bool: frozenset({bool}),
    NoneType: frozenset({NoneType}),
}


# Where something is wrong, as it follows the place above, and what; None where nothing is.
Fault = tuple[str, str] | None
Check = Callable[[Any], Fault]


def mismatch(content: Any, hint: Any) -> str:
    """The first place in `content` that is not of the kind `hint`; empty where there is none."""
    fault = _check_of(hint)(content)
    if fault is None:
        return ""
    place, what = fault
    return f"{place.removeprefix('.')} {what}" if place else what.replace("must be", "must hold")


@cache
def _check_of(hint: Any) -> Check:
    """What checks a value: a comparison of hundreds of runs checks millions of them."""
    if hint in PLAIN:
        kinds, wrong = PLAIN[hint], ("", f"must be {NAMES[hint]}")
        return lambda content: None if type(content) in kinds else wrong
    options = typing.get_args(hint)
    if is_union(hint):
        return partial(_of_union, checks=[_check_of(option) for option in options])
    origin = typing.get_origin(hint) or hint
    if origin is list:
        return partial(_of_list, item=options[0], check=_check_of(options[0]))
    if origin is dict:
        return partial(_of_object, item=options[1], check=_check_of(options[1]))
    if is_dataclass(hint) or typing.is_typeddict(hint):
        hints, required = _fields(hint)
        return partial(_of_fields, checks={key: _check_of(kind) for key, kind in hints.items()}, required=required)
    # Other annotations say nothing about JSON.
    return lambda content: None


def _of_union(content: Any, *, checks: list[Check]) -> Fault:
    faults = [check(content) for check in checks]
    # The first option is what is mostly there.
    return None if None in faults else faults[0]


def _of_list(content: Any, *, item: Any, check: Check) -> Fault:
    if type(content) is not list:
        return "", "must be a list"
    # Most values of a run are numbers in lists: these are checked at once.
    if item in PLAIN and PLAIN[item].issuperset(map(type, content)):
        return None
    for i, value in enumerate(content):
        fault = check(value)
        if fault:
            return f"[{i}]{fault[0]}", fault[1]
    return None


def _of_object(content: Any, *, item: Any, check: Check) -> Fault:
    if type(content) is not dict:
        return "", "must be an object"
    if item in PLAIN and PLAIN[item].issuperset(map(type, content.values())):
        return None
    return _of_values(content, dict.fromkeys(content, check))


def _of_fields(content: Any, *, checks: Mapping[str, Check], required: Sequence[str]) -> Fault:
    if type(content) is not dict:
        return "", "must be an object"
    for key in required:
        if key not in content:
            return "", f"has no {key}"
    return _of_values(content, checks)


def _of_values(content: Mapping[str, Any], checks: Mapping[str, Check]) -> Fault:
    for key, check in checks.items():
        fault = check(content[key]) if key in content else None
        if fault:
            return f".{key}{fault[0]}", fault[1]
    return None


def _fields(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """The kinds of the keys of an object, and the keys that it must have."""
    hints = typing.get_type_hints(kind)
    if is_dataclass(kind):
        return hints, [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]
    # `__required_keys__` does not see NotRequired in annotations that are text.
    annotated = typing.get_type_hints(kind, include_extras=True)
    optional = {key for key, hint in annotated.items() if typing.get_origin(hint) is typing.NotRequired}
    return hints, [key for key in hints if kind.__total__ and key not in optional]
