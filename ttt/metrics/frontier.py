"""The stability-plasticity frontier as a number: how much of the plane of learning and forgetting a method reaches."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def dominated_area(points: Sequence[Point], *, reference: Point) -> float:
    """Area between `reference` and what any of `points` is at least as good as; higher is better on both axes.

    The hypervolume of Zitzler & Thiele (1998) in two dimensions, in the product of the two units. A point that
    is worse than the reference on an axis adds nothing. It grows with the points given, so that lines are
    compared over equal rates, and means nothing without its reference. NaN where a value was not measured.
    """
    if any(value != value for point in points for value in point):
        return float("nan")
    area, reached = 0.0, reference[1]
    for x, y in sorted(points, reverse=True):
        area += max(x - reference[0], 0.0) * max(y - reached, 0.0)
        reached = max(reached, y)
    return area
