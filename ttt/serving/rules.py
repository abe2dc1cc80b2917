"""How texts are read, and what is said about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ttt.serving.meter import Score
from ttt.serving.upkeep import Upkeep

EventKind = Literal["window", "norm", "end"]


@dataclass(frozen=True)
class ReadingRules:
    """How texts are read.

    `block`: tokens that are read at once; `window`: blocks of an event; `lanes`: sessions that are
    read side by side; `plain`: read everything a second time without writes, to compare with.
    Raises ValueError for numbers that cannot be.
    """

    block: int = 256
    window: int = 16
    lanes: int = 8
    plain: bool = True
    upkeep: Upkeep = field(default_factory=Upkeep)

    def __post_init__(self) -> None:
        for name in ("block", "window", "lanes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    @property
    def settings(self) -> dict[str, Any]:
        """What a saved state must agree with, because numbers follow from it."""
        return {"block": self.block, "window": self.window, "plain": self.plain, **asdict(self.upkeep)}


@dataclass(frozen=True)
class Event:
    """What is said of a session. `kind`: window (so many blocks were read), norm (fast weights have
    left their usual range), or end (of the text: `score` is that of all).

    `read`: tokens so far; `end`: bytes of the text so far; `norm`: that of the fast weights.
    """

    kind: EventKind
    session: str
    read: int
    end: int
    score: Score
    norm: float
