"""The kinds of needles by name, with the numbers that RULER (arXiv 2404.06654) gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from ttt.tasks.machinery.hidden_counts import CommonWords, FrequentWords
from ttt.tasks.machinery.hidden_values import City, Value, Values, Variables
from ttt.tasks.machinery.puzzles import PuzzleKind

KindName = Literal[
    "city", "single-1", "single-2", "single-3", "multi-key", "multi-value", "variable-tracking", "common-words",
    "frequent-words",
]  # fmt: skip
# What a kind has beyond the arguments that are typed; see conf/source/needle.yaml.
KINDS: Mapping[KindName, tuple[type[Any], dict[str, Any]]] = {
    "city": (City, {}),
    "single-1": (Values, {"hay": "noise"}),
    "single-2": (Values, {}),
    "single-3": (Values, {"value": "uuid"}),
    "multi-key": (Values, {"others": 3}),
    "multi-value": (Values, {"count": 4}),
    "variable-tracking": (Variables, {"count": 4}),
    "common-words": (CommonWords, {"count": 10}),
    "frequent-words": (FrequentWords, {"count": 3}),
}


def kind_of_needle(
    name: KindName, *, digits: int, value: Value | None, count: int | None, others: int | None
) -> PuzzleKind:
    """Return a kind, with what was typed in place of its usual numbers.

    Raises ValueError for an argument that this kind does not have.
    """
    kind, usual = KINDS[name]
    changes = {"value": value, "count": count, "others": others}
    typed = {argument: x for argument, x in changes.items() if x is not None}
    # A setting that does nothing would be believed to do something.
    for argument, x in typed.items():
        having = [word for word, (other, _) in KINDS.items() if argument in _arguments(other)]
        if name not in having:
            raise ValueError(f"source.{argument}={x}: source.kind={name} has none; allowed with {', '.join(having)}")
    settings = usual | typed | ({"digits": digits} if "digits" in _arguments(kind) else {})
    built: PuzzleKind = kind(**settings)
    return built


def _arguments(kind: type[Any]) -> set[str]:
    return {field.name for field in fields(kind)}
