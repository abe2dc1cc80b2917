"""Ends of an axis that one run which diverged does not stretch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

# A value further from the median than this many times the median distance is off the axis.
FAR = 20.0
# Room beside the outermost points, as a share of the axis.
MARGIN = 0.05
Which = Literal["x", "y"]


def usual(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which values lie where most lie; all of them where half are equal."""
    finite = np.isfinite(values)
    if not finite.any():
        return finite
    distance = np.abs(values - np.median(values[finite]))
    scale = float(np.median(distance[finite]))
    return finite & ((distance <= FAR * scale) | (scale == 0))


def limit(axes: Axes, which: Which, means: Sequence[Sequence[float]], ends: Sequence[Sequence[float]]) -> None:
    """Let an axis end where most of `means` end, if some lie far off, and say so.

    `means`: a list for each line; `ends`: of the intervals around them, which may widen the axis.
    """
    flat = np.array([x for line in means for x in line], dtype=np.float64)
    inside = usual(flat)
    outside = int((np.isfinite(flat) & ~inside).sum())
    around = np.array([*flat, *(x for line in ends for x in line)], dtype=np.float64)
    if not outside and usual(around)[np.isfinite(around)].all():
        return
    # Of the intervals of usual means the usual ends count.
    centre, reach = np.median(flat[inside]), FAR * np.median(np.abs(flat[inside] - np.median(flat[inside])))
    shown = around[np.isfinite(around) & (np.abs(around - centre) <= reach)] if reach > 0 else flat[inside]
    low, high = float(shown.min()), float(shown.max())
    room = MARGIN * (high - low) or 1.0
    (axes.set_xlim if which == "x" else axes.set_ylim)(low - room, high + room)
    if outside:
        text = f"{outside} of {len(flat)} points lie off this axis"
        place = (0.01, 0.02) if which == "y" else (0.01, 0.08)
        axes.text(*place, text, transform=axes.transAxes, fontsize=7, va="bottom")
