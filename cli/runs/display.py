"""How much a command shows, and how: `--quiet`, `--plain`, `--verbose`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OPTIONS = ("--quiet", "--plain", "--verbose")
# From an empty line to a full one.
LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Display:
    """`quiet`: nothing but errors; `plain`: lines, nothing that moves; `verbose`: every report."""

    quiet: bool = False
    plain: bool = False
    verbose: bool = False


EVERYTHING = Display()


def sparkline(values: Sequence[float], *, width: int = 12) -> str:
    """The values as a curve one line high: the last `width` means of equally many of them."""
    if not values:
        return ""
    size = -(-len(values) // width)
    means = [sum(piece) / len(piece) for piece in (values[i : i + size] for i in range(0, len(values), size))]
    low, high = min(means), max(means)
    # Where all means are equal, the division below is by 1, and the line is flat.
    steps = len(LEVELS) - 1
    # NaN has no place on the curve.
    return "".join(LEVELS[round((x - low) / ((high - low) or 1.0) * steps)] if x == x else " " for x in means)


def span(seconds: float) -> str:
    """A time in words: 12 s, 5 min, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
