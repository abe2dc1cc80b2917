"""Where a stream stands, and what its time went to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Clock:
    """Batches and tokens read in training, and seconds of wall time.

    `training`, `evaluation` and `between` (what the strategy does between tasks) are shares of
    `seconds`.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0
    between: float = 0.0
    _since: float = field(default_factory=time.perf_counter, init=False, repr=False)

    def state(self) -> dict[str, Any]:
        """What `Clock(**state)` goes on from, in this process or another."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.init}

    def tick(self) -> dict[str, Any]:
        """Add the time since the last tick; return the axes that every event carries."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        return {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}
