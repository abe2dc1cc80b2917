"""What is measured when: which tasks in which row of R, and what besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ttt.config.messages import show
from ttt.stream import Stream, spread

# Up to this many tasks all are measured after each; with more, this many rows of R are full.
MANY, FULL_ROWS = 30, 10


@dataclass(frozen=True)
class Plan:
    """Which tasks are measured in which row of R: all J of them after each of P phases costs P x J
    evaluations.

    Every row holds the task just learned and the next one, so that learning, forgetting since
    learning and forward transfer stay defined. Every `every`-th row holds the others too, or `old`
    of those learned before (None: all); the first and the last row are full. The base is measured
    in the same rows.
    """

    every: int
    old: int | None
    # Steps between evaluations inside a phase; None: there are none.
    anytime: int | None = None
    savings: bool = False
    diagnostics: bool = False
    # Tokens that the model writes behind the opening of each task's eval text.
    samples: int = 0
    # Are answers written freely, too?
    exact: bool = False

    @classmethod
    def read(cls, config: Mapping[str, Any], *, stream: Stream, is_cut: bool) -> Plan:
        """From the section `eval` of a config; `is_cut`: are parameters cut over devices?

        Raises ValueError in the user's words.
        """
        for argument in ("savings", "diagnostics"):
            if not isinstance(config[argument], bool):
                raise ValueError(f"eval.{argument}={show(config[argument])}: must be true or false")
        plan = cls.of(config["every"], stream=stream, tasks=config["tasks"])
        plan = replace(plan, anytime=config["anytime"], savings=config["savings"])
        _check_anytime(plan.anytime, longest=max(phase.steps for phase in stream.phases))
        if plan.savings and plan.anytime is None:
            raise ValueError("eval.savings=true: needs the steps between its evaluations, such as eval.anytime=5")
        # Configs of earlier versions have no such key.
        plan = replace(plan, samples=config.get("samples", 0), exact=config.get("exact", False))
        return replace(plan, diagnostics=config["diagnostics"] and not is_cut)

    @classmethod
    def of(cls, every: int | str, *, stream: Stream, tasks: int | str = "all") -> Plan:
        """`auto` means every row up to MANY tasks, else FULL_ROWS of them. Raises ValueError."""
        for argument, value, word in (("every", every, "auto"), ("tasks", tasks, "all")):
            if value != word and not _is_count(value):
                raise ValueError(f"eval.{argument}={show(value)}: must be {word} or a number of at least 1")
        if every == "auto":
            rows = len(stream.phases)
            every = 1 if len(stream.tasks) <= MANY else -(-rows // FULL_ROWS)
        return cls(int(every), None if tasks == "all" else int(tasks))

    def has_base(self, row: int, *, stream: Stream) -> bool:
        """Is the base distribution measured in this row?"""
        return row % self.every == 0 or row == len(stream.phases)

    def columns(self, row: int, *, stream: Stream) -> list[int]:
        """The tasks (from 0) that are measured in a row."""
        recent = {phase.task for phase in stream.phases[max(row - 1, 0) : row + 1]}
        if row in (0, len(stream.phases)) or (self.old is None and row % self.every == 0):
            return list(range(len(stream.tasks)))
        if self.old is None or row % self.every:
            return sorted(recent)
        before = [j for j, first in enumerate(stream.learned_at) if first <= row and j not in recent]
        return sorted(recent | {before[k] for k in spread(min(self.old, len(before)), over=len(before))})


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_anytime(steps: Any, *, longest: int) -> None:
    if steps is None:
        return
    if not _is_count(steps):
        raise ValueError(f"eval.anytime={show(steps)}: must be null or a number of steps, at least 1")
    if steps >= longest:
        raise ValueError(f"eval.anytime={steps}: nothing is measured inside tasks of {longest} steps; type fewer")
