"""Lines with intervals as bands: anything that is measured along a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes

from ttt.figures import style
from ttt.figures.limits import limit

# Names of more places than these would overlap below the axis.
TICKS = 12


@dataclass(frozen=True)
class Band:
    """`mean` at each of `x`; `half`: half of its interval, empty or NaN where there is none."""

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    half: Sequence[float] = field(default=())


def bands(
    lines: Sequence[Band],
    *,
    xlabel: str,
    ylabel: str,
    names: Sequence[str] = (),
    boundaries: Sequence[float] = (),
    zero: bool = False,
) -> Axes:
    """One line for each Band.

    `names` stand at x = 0, 1, ...; thin lines at `boundaries`; `zero` draws that line.
    """
    axes = style.axes()
    for i, line in enumerate(lines):
        x, mean = np.asarray(line.x, dtype=float), np.asarray(line.mean, dtype=float)
        # A line of few points shows where it was measured.
        dots = style.marker(i) if len(x) <= 2 * TICKS else ""
        (drawn,) = axes.plot(x, mean, label=line.label, color=style.color(i), linestyle=style.dash(i))
        drawn.set(marker=dots, markersize=4)
        if len(line.half):
            half = np.asarray(line.half, dtype=float)
            axes.fill_between(x, mean - half, mean + half, color=style.color(i), alpha=0.2, linewidth=0)
    for boundary in boundaries:
        axes.axvline(boundary, color=style.INK, linewidth=0.5, alpha=0.25)
    if zero:
        axes.axhline(0, color=style.INK, linewidth=0.8, alpha=0.6)
    if names:
        # The step is rounded up, so that no more than TICKS names stand there.
        shown = range(0, len(names), -(-len(names) // TICKS))
        axes.set_xticks(list(shown), [names[j] for j in shown], rotation=30, ha="right")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    ends = [[m + side * h for m, h in zip(line.mean, line.half, strict=True)] for line in lines if len(line.half)
            for side in (-1, 1)]  # fmt: skip
    limit(axes, "y", [line.mean for line in lines], ends)
    style.legend(axes)
    return axes
