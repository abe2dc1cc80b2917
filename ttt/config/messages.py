"""How a refusal is worded: as one would type it, with the nearest match and what is allowed."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable
from typing import Any

# Characters of a list within a line, about three rows of a terminal; and the names that are near.
LONGEST, NEAR = 300, 6


class UsageError(ValueError):
    """What the user asked for cannot be: one line that quotes what was typed; exit code 2."""


def show(value: Any) -> str:
    """A value as one would type it on the command line."""
    # JSON spells them Infinity and NaN, which nobody types.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value)


def counted(number: int, noun: str) -> str:
    """`1 task`, `1,000 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def suggest(word: str, allowed: Iterable[str], *, listed: str = "") -> str:
    """`did you mean x?` if anything is near, and what is allowed: all, or the nearest of many.

    `listed`: what to type to see all of many.
    """
    options = sorted(allowed)
    # Task and source names are written with hyphens, adapters with underscores: people mix them up.
    # A part is often typed for its name, adapter for adapter.name.
    spellings = {option.removesuffix(".name").replace("_", "-"): option for option in options}
    spellings |= {option.replace("_", "-"): option for option in options}
    near = difflib.get_close_matches(word.replace("_", "-"), spellings, n=1, cutoff=0.5)
    hint = f"did you mean {spellings[near[0]]}? " if near else ""
    if len(", ".join(options)) <= LONGEST:
        return f"{hint}allowed: {', '.join(options)}"
    everything = f"; all: {listed}" if listed else ""
    return f"{hint}allowed: {len(options):,} names, such as {few(_nearest(word, options))}{everything}"


def few(words: Iterable[str]) -> str:
    """Words in a row, and how many more there are than fit into a line."""
    row = list(words)
    shown = row
    while len(", ".join(shown)) > LONGEST and len(shown) > 1:
        shown = shown[: len(shown) // 2]
    more = f" and {len(row) - len(shown):,} more" if len(shown) < len(row) else ""
    return ", ".join(shown) + more


def _nearest(word: str, options: list[str]) -> list[str]:
    """The options with `word` in them, then those spelled like it; else where options begin."""
    # Those that end in the word come first: slow/loss/gained before slow/loss/gained_slope.
    ends = (f"/{word}", f".{word}")
    within = sorted((x for x in options if word and word in x), key=lambda x: (not x.endswith(ends), len(x)))
    spelled = difflib.get_close_matches(word, options, n=NEAR, cutoff=0.5)
    heads = {f"{head}{sign}..." if sign else head for head, sign, _ in map(_cut, options)}
    return list(dict.fromkeys([*within, *spelled]))[:NEAR] or sorted(heads)[:NEAR]


def _cut(name: str) -> tuple[str, str, str]:
    """fast/loss/avg_final: fast and the rest; adapter.name: adapter and the rest."""
    return name.partition("/" if "/" in name else ".")
