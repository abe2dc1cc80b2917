"""Which values an argument may have, read from its annotation.

    rule: Literal["hebb", "delta", "nlms"]     one of these words
    chunk: Annotated[int, Ge(1)]               a bound (annotated_types: Ge, Gt, Le, Lt, Interval)
    clip: Annotated[float, Gt(0)] | None       either of two kinds
    layers: list[int]                          a list of them

Raised nowhere: `refusal` returns what is wrong, in words that follow "group.key=value: ".
"""

from __future__ import annotations

import math
import types
import typing
from typing import Any

from annotated_types import Ge, Gt, Interval, Le, Lt

from ttt.config.messages import show, suggest

NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    list[int]: "a list of integers",
    list[str]: "a list of names",
}


def refusal(value: Any, hint: Any) -> str:
    """Why `value` does not fit the annotation; empty where it does."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    reasons = [_of_one(value, option) for option in options]
    if "" in reasons:
        return ""
    if len(options) == 1:
        return reasons[0]
    words = [reason for reason, option in zip(reasons, options, strict=True) if _same_kind(value, option)]
    # A number out of its bounds is told the bound, a word that is not allowed the words.
    return words[0] if words else f"must be {describe(hint)}"


def describe(hint: Any) -> str:
    """An annotation in words: `an integer or null`."""
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    return " or ".join(_described(option) for option in options)


def kind_of(hint: Any) -> Any:
    """The annotation without its bounds."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _described(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return f"one of {', '.join(map(show, typing.get_args(option)))}"
    plain = kind_of(option)
    if typing.get_origin(plain) is list and plain not in NAMES:
        return f"a list, each {describe(*typing.get_args(plain))}"
    bounds = " ".join(_bound(bound) for bound in getattr(option, "__metadata__", ()))
    return f"{NAMES.get(plain, str(plain))} {bounds}".strip()


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _same_kind(value: Any, option: Any) -> bool:
    """Is `value` of the kind that the option speaks of, though not one of its values?"""
    if typing.get_origin(option) is typing.Literal:
        return isinstance(value, str)
    return typing.get_origin(option) is typing.Annotated and _fits_plain(value, kind_of(option))


def _of_one(value: Any, option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        words = typing.get_args(option)
        if value in words and isinstance(value, str):
            return ""
        return f"unknown; {suggest(show(value), words)}"
    if not _fits_plain(value, kind_of(option)):
        return f"must be {describe(option)}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    for bound in getattr(option, "__metadata__", ()):
        if not _keeps(value, bound):
            return f"must be {_bound(bound)}"
    return ""


def _fits_plain(value: Any, hint: Any) -> bool:
    """An int serves as a float, a bool never as a number."""
    if typing.get_origin(hint) is list:
        (item,) = typing.get_args(hint)
        return isinstance(value, list) and all(not refusal(x, item) for x in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    return True


def _keeps(value: Any, bound: Any) -> bool:
    match bound:
        case Ge(ge=least):
            return bool(value >= least)
        case Gt(gt=limit):
            return bool(value > limit)
        case Le(le=most):
            return bool(value <= most)
        case Lt(lt=limit):
            return bool(value < limit)
        case Interval():
            return all(_keeps(value, part) for part in bound)
    return True


def _bound(bound: Any) -> str:
    match bound:
        case Ge(ge=least):
            return f"at least {least}"
        case Gt(gt=limit):
            return f"above {limit}"
        case Le(le=most):
            return f"at most {most}"
        case Lt(lt=limit):
            return f"below {limit}"
        case Interval():
            return " and ".join(_bound(part) for part in bound)
    return ""
