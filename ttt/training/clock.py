"""Where a stream is, and what its time went to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Clock:
    """Where the stream is: batches, tokens read in training, seconds of wall time; of these in training, in
    evaluation, and in what the strategy does between tasks."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0
    between: float = 0.0
    _since: float = field(default_factory=time.perf_counter, init=False, repr=False)

    def state(self) -> dict[str, Any]:
        """What `Clock(**state)` goes on from, in this process or another."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.init}

    def tick(self) -> dict[str, Any]:
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        return {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}
