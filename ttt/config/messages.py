"""How a refusal is worded: as one would type it, with the nearest match and what is allowed."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable
from typing import Any


class UsageError(ValueError):
    """What the user asked for cannot be: one line that quotes what was typed; exit code 2."""


def show(value: Any) -> str:
    """A value as one would type it on the command line."""
    # JSON spells them Infinity and NaN, which nobody types.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value)


def suggest(word: str, allowed: Iterable[str]) -> str:
    """`did you mean x?` if anything is near, and the list of what is allowed."""
    options = sorted(allowed)
    # Task and source names are written with hyphens, adapters with underscores: people mix them up.
    plain = [option.replace("_", "-") for option in options]
    near = difflib.get_close_matches(word.replace("_", "-"), plain, n=1, cutoff=0.5)
    hint = f"did you mean {options[plain.index(near[0])]}? " if near else ""
    return f"{hint}allowed: {', '.join(options)}"
