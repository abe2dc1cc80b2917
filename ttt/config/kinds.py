"""Is what was read from a file of the kinds that it should be? An annotation says which these are.

    rows: list[Row]              a list of objects with the keys of a TypedDict or a dataclass
    scores: dict[str, float]     an object with any keys, and a number, or null, for each

Raised nowhere: `mismatch` returns where and what, in words that follow "FILE: ".
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
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


def mismatch(content: Any, hint: Any, *, at: str = "") -> str:
    """The first place in `content` that is not of the kind `hint`; empty where there is none."""
    if hint in PLAIN:
        return "" if type(content) in PLAIN[hint] else _wrong(at, NAMES[hint])
    if is_union(hint):
        wrong = [mismatch(content, option, at=at) for option in typing.get_args(hint)]
        # The first option is what is mostly there.
        return "" if "" in wrong else wrong[0]
    origin = typing.get_origin(hint) or hint
    if origin is list:
        return _of_list(content, *typing.get_args(hint), at=at)
    if origin is dict:
        return _of_object(content, typing.get_args(hint)[1], at=at)
    if is_dataclass(hint) or typing.is_typeddict(hint):
        return _of_fields(content, hint, at=at)
    # Other annotations say nothing about JSON.
    return ""


def _of_list(content: Any, item: Any, *, at: str) -> str:
    if type(content) is not list:
        return _wrong(at, "a list")
    # A run has thousands of numbers, mostly in long lists: these are checked at once.
    if item in PLAIN and PLAIN[item].issuperset(map(type, content)):
        return ""
    return _first(mismatch(value, item, at=f"{at}[{i}]") for i, value in enumerate(content))


def _of_object(content: Any, item: Any, *, at: str) -> str:
    if type(content) is not dict:
        return _wrong(at, "an object")
    return _first(mismatch(value, item, at=_below(at, key)) for key, value in content.items())


def _of_fields(content: Any, kind: Any, *, at: str) -> str:
    if type(content) is not dict:
        return _wrong(at, "an object")
    hints, required = _fields(kind)
    absent = [key for key in required if key not in content]
    if absent:
        return f"has no {_below(at, absent[0])}"
    return _first(mismatch(content[key], hint, at=_below(at, key)) for key, hint in hints.items() if key in content)


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """The kinds of the keys of an object, and the keys that it must have."""
    hints = typing.get_type_hints(kind)
    if is_dataclass(kind):
        return hints, [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]
    # `__required_keys__` does not see NotRequired in annotations that are text.
    annotated = typing.get_type_hints(kind, include_extras=True)
    optional = {key for key, hint in annotated.items() if typing.get_origin(hint) is typing.NotRequired}
    return hints, [key for key in hints if kind.__total__ and key not in optional]


def _below(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _first(wrong: Iterable[str]) -> str:
    return next(filter(None, wrong), "")


def _wrong(at: str, kind: str) -> str:
    return f"{at} must be {kind}" if at else f"holds no {kind.partition(' ')[2]}"
