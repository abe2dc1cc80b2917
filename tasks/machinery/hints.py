"""How a refusal names what is near and what there is, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

# Names of a list within a line.
SHOWN = 12


def name_meant(word: str, names: Sequence[str], *, cutoff: float = 0.5) -> str:
    """Return `did you mean x? ` if anything is near, else nothing."""
    near = get_close_matches(word, names, n=1, cutoff=cutoff)
    return f"did you mean {near[0]}? " if near else ""


def some(names: Sequence[str]) -> str:
    """Return names in a row, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
