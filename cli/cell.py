"""How a table shows an interval."""

from __future__ import annotations

from ttt.metrics.seeds import Interval


def cell(interval: Interval, *, difference: bool) -> str:
    """mean and half of the interval; * marks a difference whose interval leaves out zero."""
    if interval.mean != interval.mean:
        return "-"
    text = f"{interval.mean:{'+' if difference else ''}.3f}"
    if interval.n < 2:
        return text
    return f"{text} ±{interval.half:.3f}" + ("*" if difference and interval.resolved else "")
