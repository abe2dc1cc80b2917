"""What happens to fast weights after each block, beside what the adapter itself does."""

from __future__ import annotations

from dataclasses import dataclass

from ttt.serving.lanes import Lane, is_memory


@dataclass(frozen=True)
class Upkeep:
    """`decay`: the share of the state that is left after each block.

    `max_norm`: a larger state is scaled down to this norm; None: no bound. `reset`: fast weights
    return to their start after the block in which so many tokens are full; None: never.
    Raises ValueError for values out of range.
    """

    decay: float = 1.0
    max_norm: float | None = None
    reset: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay}: must lie between 0 and 1")
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"max_norm={self.max_norm}: must be above 0")
        if self.reset is not None and self.reset < 1:
            raise ValueError(f"reset={self.reset}: must be at least 1 (never: no resets)")

    def after_block(self, lane: Lane, *, start: Lane, before: int, after: int) -> tuple[Lane, float]:
        """The lane that the next block starts from, and the norm of its fast weights.

        `before` and `after`: how many tokens were read up to the block, and with it.
        """
        # Open chunks and attention stay: they belong to the text, not to what was learned from it.
        names = [name for name in lane if is_memory(name)]
        if self.reset is not None and before // self.reset < after // self.reset:
            lane = lane | {name: start[name] for name in names}
        elif self.decay < 1:
            lane = lane | {name: self.decay * lane[name] for name in names}
        norm = norm_of(lane)
        if self.max_norm is None or not norm > self.max_norm:
            return lane, norm
        return lane | {name: lane[name] * (self.max_norm / norm) for name in names}, self.max_norm


def norm_of(lane: Lane) -> float:
    """The root of the sum of squares over all fast weights."""
    return float(sum(float(x.double().square().sum()) for name, x in lane.items() if is_memory(name)) ** 0.5)
