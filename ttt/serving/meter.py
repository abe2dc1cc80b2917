"""How well a session's text was predicted: bits per byte over time, with writes and without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Points of a curve: two neighbours become one when there are more.
POINTS = 64
# Blocks before a range of norms is called usual, and the share of the newest block in its mean.
WARM_UP, SHARE = 20, 0.05
# A norm is unusual this many standard deviations away, or this share of the mean, if that is more.
DEVIATIONS, LEAST = 6.0, 0.1


@dataclass
class Score:
    """Sums over scored tokens: `nats` with writes, `plain` of the same model without."""

    tokens: int = 0
    bytes: int = 0
    nats: float = 0.0
    plain: float | None = None

    def add(self, other: Score) -> None:
        self.tokens += other.tokens
        self.bytes += other.bytes
        self.nats += other.nats
        if other.plain is not None:
            self.plain = (self.plain or 0.0) + other.plain

    def since(self, before: Score) -> Score:
        """What was added to this score since it was `before`."""
        plain = None if self.plain is None else self.plain - (before.plain or 0.0)
        return Score(self.tokens - before.tokens, self.bytes - before.bytes, self.nats - before.nats, plain)

    @property
    def bits(self) -> float | None:
        """Bits per byte; None before a byte is scored."""
        return _per_byte(self.nats, self.bytes)

    @property
    def plain_bits(self) -> float | None:
        return None if self.plain is None else _per_byte(self.plain, self.bytes)


@dataclass
class Stretch:
    """A stretch of the text: its score, where it ends, and the norm of the fast weights there."""

    score: Score
    end: int
    norm: float


@dataclass
class UsualRange:
    """Mean and variance of the norm over the last blocks; the newest count most."""

    blocks: int = 0
    mean: float = 0.0
    variance: float = 0.0
    is_outside: bool = False

    def leaves(self, norm: float) -> bool:
        """Take the norm after a block. Does it leave the range here, having been inside before?"""
        off = norm - self.mean
        width = max(DEVIATIONS * math.sqrt(self.variance), LEAST * self.mean)
        is_outside = not math.isfinite(norm) or (self.blocks >= WARM_UP and abs(off) > width)
        is_new, self.is_outside = is_outside and not self.is_outside, is_outside
        self.blocks += 1
        if math.isfinite(norm):
            # At first a plain mean, so that the first block does not count for ever.
            share = max(SHARE, 1 / self.blocks)
            self.mean += share * off
            self.variance = (1 - share) * (self.variance + share * off * off)
        return is_new


@dataclass
class Meter:
    """What was measured of a session, in constant memory.

    `read`: tokens; `size`: their bytes; `total`: the score of all; `window`: that of the `blocks`
    since the last window was closed. `points` have `stride` windows each.
    """

    read: int = 0
    size: int = 0
    norm: float = 0.0
    total: Score = field(default_factory=Score)
    window: Score = field(default_factory=Score)
    blocks: int = 0
    usual: UsualRange = field(default_factory=UsualRange)
    points: list[Stretch] = field(default_factory=list)
    stride: int = 1
    windows: int = 0

    def add(self, score: Score, *, tokens: int, size: int, norm: float) -> None:
        """Take what a block came to."""
        self.read, self.size, self.norm, self.blocks = self.read + tokens, self.size + size, norm, self.blocks + 1
        self.total.add(score)
        self.window.add(score)

    def close_window(self) -> Score:
        """Put the open window onto the curve, and return its score."""
        window, self.window, self.blocks = self.window, Score(), 0
        if self.windows % self.stride == 0:
            self.points.append(Stretch(Score(), self.size, self.norm))
        # At least one point is there: the first window is always a multiple of the stride.
        self.points[-1].score.add(window)
        self.points[-1].end, self.points[-1].norm = self.size, self.norm
        self.windows += 1
        # Half as many points of twice the length: the curve keeps its size, however long the text.
        if len(self.points) > POINTS:
            self.points = [joined(self.points[i : i + 2]) for i in range(0, len(self.points), 2)]
            self.stride *= 2
        return window

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Meter:
        scores = {name: Score(**content[name]) for name in ("total", "window")}
        points = [Stretch(Score(**point["score"]), point["end"], point["norm"]) for point in content["points"]]
        return cls(**content | scores | {"points": points, "usual": UsualRange(**content["usual"])})


def joined(points: Sequence[Stretch]) -> Stretch:
    """One point for the stretch of one or two."""
    score = Score()
    for point in points:
        score.add(point.score)
    return Stretch(score, points[-1].end, points[-1].norm)


def _per_byte(nats: float, size: int) -> float | None:
    return nats / math.log(2) / size if size else None
