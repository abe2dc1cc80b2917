"""What may be asked of `objective=reward`, checked in the words of who typed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ttt.config.messages import show, suggest

BASELINES = ("problem", "prompt")
LESSONS = ("reward", "prompt")
CYCLE = ("fast_budget", "slow_steps", "rounds")


@dataclass(frozen=True)
class Cycle:
    """`slow_steps` steps between rounds of search of at most `fast_budget` rollouts; `rounds` None: without end."""

    fast_budget: int
    slow_steps: int
    rounds: int | None

    @classmethod
    def read(cls, given: Any) -> Cycle:
        """Raises ValueError naming the key."""
        if not isinstance(given, Mapping):
            raise ValueError(f"objective.cycle={show(given)}: is a section; set objective.cycle.{', .'.join(CYCLE)}")
        for key in given:
            if key not in CYCLE:
                raise ValueError(f"objective.cycle.{key}={show(given[key])}: unknown; {suggest(key, CYCLE)}")
        for key, value in given.items():
            least = 1 if key == "slow_steps" else 0
            is_number = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not is_number and not (key == "rounds" and value is None):
                raise ValueError(f"objective.cycle.{key}={show(value)}: must be a number of at least {least}")
        return cls(**given)

    def is_due(self, *, steps: int, rounds: int) -> bool:
        """Is there a round before the next slow step, after so many steps and rounds?"""
        return steps % self.slow_steps == 0 and (self.rounds is None or rounds < self.rounds)


def check_numbers(*, rollouts: int, temperature: float, clip: float, entropy: float, kl: float) -> None:
    """Raises ValueError."""
    if rollouts < 2:
        raise ValueError(f"objective.rollouts={rollouts}: must be at least 2; a group of one has no baseline")
    for argument, value in {"temperature": temperature, "clip": clip}.items():
        if not (value > 0 and isfinite(value)):
            raise ValueError(f"objective.{argument}={value}: must be a number above 0")
    for argument, value in {"entropy": entropy, "kl": kl}.items():
        if not (value >= 0 and isfinite(value)):
            raise ValueError(f"objective.{argument}={value}: must be a number of at least 0")


def check_choice(argument: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError."""
    if value not in allowed:
        raise ValueError(f"objective.{argument}={value}: {suggest(value, allowed)}")
