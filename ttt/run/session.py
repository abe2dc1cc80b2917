"""A stream in progress: everything that its loop works with, and where it comes to rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ttt.devices.collective import decided
from ttt.evaluation.diagnose import Diagnosis
from ttt.evaluation.plan import Plan
from ttt.learner import Engine
from ttt.results.events import Event, Observer
from ttt.results.results import Results
from ttt.run.resume import save_run
from ttt.storage.history import History
from ttt.storage.journal import Journal
from ttt.stream import KnownSets, Stream
from ttt.training.clock import Clock
from ttt.training.finite import LARGE, check_finite_state, size_of_state
from ttt.training.recipe import Recipe
from ttt.training.saving import Saving, StoppedError


def silent(line: str) -> None:
    """Nobody reads notes."""


@dataclass
class Session:
    """Everything that a stream in progress works with.

    `journal` is None in all processes but the first, which alone writes. `checkpoints` is the
    folder that they go to. `known_sets`: what the model may know before the stream. `diagnosis` was
    made at the base. `report_every`: steps between two lines of metrics; `workers`: processes that
    prepare batches ahead. `task_step`: how much of the next task was learned before. `skips`: a
    step that is not finite moves nothing. `note`: takes a line for whoever looks on.
    """

    engine: Engine
    stream: Stream
    recipe: Recipe
    plan: Plan
    results: Results
    clock: Clock
    checkpoints: Path
    journal: Journal | None = None
    observers: Sequence[Observer] = field(default=())
    known_sets: KnownSets = field(default_factory=KnownSets)
    diagnosis: Diagnosis | None = None
    report_every: int = 10
    workers: int = 0
    task_step: int = 0
    skips: bool = False
    saving: Saving = field(default_factory=Saving)
    note: Callable[[str], None] = silent
    _is_large: bool = field(default=False, init=False)

    @cached_property
    def history(self) -> History:
        return History(self.checkpoints)

    def publish(self, event: Event) -> None:
        """Tell everybody, the journal first: numbers head for the disk before anyone sees them."""
        if self.journal is not None:
            self.journal(event)
        for observer in self.observers:
            observer(event)

    def between(self, action: Callable[[], None]) -> None:
        """Count the time of what the strategy does between tasks."""
        start = time.perf_counter()
        action()
        self.clock.between += time.perf_counter() - start

    def check_numbers(self) -> None:
        """Raise NonFiniteError for weights or a fast state that no row and no checkpoint may hold.

        Note it, once, when the fast state drowns the slow weights.
        """
        where = f"after {self.clock.step} steps of the stream"
        check_finite_state(self.engine, where=where)
        if self._is_large:
            return
        size = size_of_state(self.engine)
        self._is_large = size > LARGE
        if self._is_large:
            self.note(f"the fast state {where} is {size:.0e} times as large as the slow weights")

    def save(self) -> None:
        """Write a checkpoint of the stream as it stands, at rest between two steps."""
        # This comes first: no run may ever go on from numbers that are not finite.
        self.check_numbers()
        save_run(
            self.engine,
            self.recipe,
            results=self.results,
            clock=self.clock,
            journal=self.journal,
            history=self.history,
            folder=self.checkpoints,
            task_step=self.task_step,
            sharded=self.saving.sharded,
        )
        self.saving.restart(self.clock.step)

    def rest(self, task_step: int = 0, *, saves: bool = False, stops: bool = True) -> None:
        """After this step of a task, or between two tasks: save if that is due, or `saves`.

        Raise StoppedError if a signal asks, unless there is nothing to stop.
        """

        def look() -> tuple[int | None, bool]:
            saving = self.saving
            return saving.stop() if stops else None, saving.is_due(self.clock.step, inside_task=task_step > 0)

        # The first process decides for all, because clocks and signals differ.
        number, is_due = decided(self.engine.fabric, look)
        if number is None and not (is_due or saves):
            return
        self.task_step = task_step
        self.save()
        if number is not None:
            raise StoppedError(number)
