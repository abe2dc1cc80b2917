"""How rounds of the fast channel and slow steps take turns under `objective=reward`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from annotated_types import Ge

from ttt.config.build import construct
from ttt.config.messages import show


@dataclass(frozen=True)
class Cycle:
    """One round of at most `fast_budget` rollouts before every `slow_steps` slow steps.

    After `rounds` rounds only slow steps follow; None sets no limit.
    """

    fast_budget: Annotated[int, Ge(0)]
    slow_steps: Annotated[int, Ge(1)]
    rounds: Annotated[int, Ge(0)] | None

    @classmethod
    def read(cls, section: Any) -> Cycle:
        """Build a cycle from the section `objective.cycle`. Raises ValueError naming the key."""
        if not isinstance(section, Mapping):
            keys = ", ".join(f"objective.cycle.{field.name}" for field in fields(cls))
            raise ValueError(f"objective.cycle={show(section)}: must be a section; set {keys}")
        # `construct` checks the annotations above and words its refusals by key and value.
        cycle: Cycle = construct(cls, section, group="objective.cycle")
        return cycle

    def is_due(self, *, steps: int, rounds: int) -> bool:
        """Does a round come before the next slow step, after this many steps and rounds?"""
        return steps % self.slow_steps == 0 and (self.rounds is None or rounds < self.rounds)
