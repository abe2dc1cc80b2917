"""What the search for prompts and the slow steps have spent, counted apart.

    rollouts, fast_rollouts    answers sampled in slow steps, and by rounds of the fast channel
    slow_tokens_read, ...      prompt, question and answer of each row that a model was given, each
                               time it was: to sample, to compute a loss, to compare with the base
    slow_tokens_generated, ... tokens of sampled answers
    slow_seconds, ...          wall-clock time; evaluations and what strategies do between tasks are
                               left out
    proposals                  calls of a proposer
    shown                      right answers that a proposer read, or that slow weights imitate

All are sums since the stream began. A token counts as read although rows share the work of reading
it: how much is shared is a matter of the code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

SPENT = ("tokens_read", "tokens_generated", "seconds")
COUNTS = (
    *("rounds", "rollouts", "fast_rollouts", "proposals", "shown"),
    *(f"{channel}_{what}" for channel in ("slow", "fast") for what in SPENT),
)


class Costs:
    """Sums by name. The clock of the slow channel runs from `begin_step` to the next `pause`."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(COUNTS, 0.0)
        self._channel = "slow"
        self._since: float | None = None

    def __getitem__(self, name: str) -> float:
        return self._sums[name]

    def add(self, name: str, amount: float) -> None:
        self._sums[name] += amount

    def read(self, tokens: int) -> None:
        """Count tokens that the channel at work gave to a model."""
        self.add(f"{self._channel}_tokens_read", tokens)

    def generate(self, tokens: int) -> None:
        self.add(f"{self._channel}_tokens_generated", tokens)

    @contextmanager
    def searching(self) -> Iterator[None]:
        """While open, the fast channel is at work."""
        start, self._channel = time.perf_counter(), "fast"
        try:
            yield
        finally:
            self._channel = "slow"
            self.add("fast_seconds", time.perf_counter() - start)

    def begin_step(self) -> None:
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock of the slow channel until the next step."""
        if self._since is not None:
            self.add("slow_seconds", time.perf_counter() - self._since)
            self._since = None

    def sums(self) -> dict[str, float]:
        return dict(self._sums)

    def state(self) -> dict[str, Tensor]:
        # fp64 holds every count exactly.
        return {f"costs.{name}": torch.tensor(value, dtype=torch.float64) for name, value in self._sums.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._sums = {name: float(state[f"costs.{name}"]) for name in COUNTS}
