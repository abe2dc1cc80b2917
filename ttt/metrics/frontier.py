"""The stability-plasticity frontier as one number: how much of that plane a method dominates."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def dominated_area(points: Sequence[Point], *, reference: Point) -> float:
    """Return the area of the region above `reference` that any of `points` dominates.

    This is the hypervolume of Zitzler & Thiele (1998) in two dimensions; higher is better on both
    axes, and the unit is the product of their units. A point that is worse than the reference on an
    axis adds nothing. More points can only enlarge the area, so compare methods over the same
    learning rates and against the same reference. NaN where a value was not measured.
    """
    # Only NaN differs from itself.
    if any(value != value for point in points for value in point):
        return float("nan")
    # From right to left each point adds the strip that rises above the points before it.
    area, reached = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):
        area += max(x - reference[0], 0.0) * max(y - reached, 0.0)
        reached = max(reached, y)
    return area
