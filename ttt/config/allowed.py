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
    options = typing.get_args(hint) if is_union(hint) else (hint,)
    reasons = [_of_one(value, option) for option in options]
    if "" in reasons:
        return ""
    if len(options) == 1:
        return reasons[0]
    # Say all that is allowed: an answer of one option alone would hide the others.
    near = [reason.partition("; ")[2] for reason in reasons if "did you mean" in reason]
    hint_word = f"; {near[0].partition(' allowed')[0]}" if near else ""
    return f"must be {describe(hint)}{hint_word}"


def describe(hint: Any) -> str:
    """An annotation in words: `an integer or null`."""
    options = typing.get_args(hint) if is_union(hint) else (hint,)
    return " or ".join(_described(option) for option in options)


def kind_of(hint: Any) -> Any:
    """The annotation without its bounds."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _described(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        words = [show(word) for word in typing.get_args(option)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    plain = kind_of(option)
    if typing.get_origin(plain) is list and plain not in NAMES:
        return f"a list, each {describe(*typing.get_args(plain))}"
    bounds = " ".join(_bound(bound) for bound in getattr(option, "__metadata__", ()))
    return f"{NAMES.get(plain, str(plain))} {bounds}".strip()


def is_union(hint: Any) -> bool:
    """Does an annotation allow several kinds?"""
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


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
