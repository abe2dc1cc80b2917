"""How a picture looks on paper: its size, letters, scales and ends of axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Look:
    """`size` in inches, `font` in points, `log` and `limits` by axis. What is not set stays."""

    size: tuple[float, float] | None = None
    font: float | None = None
    title: str = ""
    log: Sequence[str] = ()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
