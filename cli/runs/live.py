"""The moving part of the screen: how far the stream is, what happens now, and the time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from ttt.cli.console import Console
from ttt.cli.runs.display import span, sparkline
from ttt.cli.runs.forecast import Forecast
from ttt.evaluation.modes import modes
from ttt.results.events import Evaluated, Event, Notice, Trained
from ttt.run.assemble import Assembly

# A terminal narrower than this shows shorter bars and no pace.
NARROW = 100


class Live:
    """Two lines that move: the stream with the time left, and below it the task at hand."""

    def __init__(self, forecast: Forecast, console: Console, *, steps: int) -> None:
        self._forecast, self._is_wide = forecast, console.width >= NARROW
        self._heard = time.monotonic()
        self._losses: list[float] = []
        self._task_number = -1
        rest = TextColumn("{task.fields[info]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        name = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=32))
        columns = (SpinnerColumn(), name, BarColumn(bar_width=24 if self._is_wide else 10), MofNCompleteColumn(), rest)
        # transient takes the bars away when they stop: only lines stay on the screen.
        self._progress = Progress(*columns, console=console, transient=True, expand=True)
        self._stream = self._progress.add_task("stream", total=steps, info="")
        self._now = self._progress.add_task("base", total=None, info="")

    @classmethod
    def of(cls, assembly: Assembly, console: Console) -> Live:
        """The lines of a checked run."""
        measured = modes(assembly.learner, assembly.recipe.objective) if assembly.learner.adapter.initial() else "1"
        return cls(Forecast.of(assembly, modes=len(measured)), console, steps=assembly.stream.steps)

    def __enter__(self) -> Live:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def hear(self, event: Event | Notice) -> None:
        """Show what an event says."""
        if isinstance(event, Notice):
            return
        now = time.monotonic()
        self._forecast.hear(event, seconds=now - self._heard)
        self._heard = now
        if isinstance(event, Trained):
            self._trained(event)
        elif isinstance(event, Evaluated):
            # No step of the next task has been reported yet.
            self._moving(f"task {event.row + 1}")
        left = self._forecast.left()
        self._progress.update(self._stream, info="" if left is None else f"about {span(left)} left")

    def _trained(self, event: Trained) -> None:
        if event.task != self._task_number:
            self._task_number, self._losses = event.task, []
        self._losses.append(event.loss)
        if event.task:
            self._progress.update(self._stream, completed=event.step)
        if event.task_step == event.task_steps:
            # What comes now has no steps: the bar moves to and fro.
            self._moving("measuring")
            return
        pace = f"  {event.tokens_per_second:,.0f} tokens/s" if self._is_wide else ""
        info = f"{sparkline(self._losses)} {learned(event)}{pace}"
        self._progress.update(
            self._now, description=label(event), total=event.task_steps, completed=event.task_step, info=info
        )

    def _moving(self, what: str) -> None:
        self._progress.reset(self._now, description=what, total=None, info="")


def label(event: Trained) -> str:
    """What is being learned."""
    return f"task {event.task} {event.task_name[:24]}" if event.task else "base"


def learned(event: Trained) -> str:
    """The reward of a policy, whose loss means something only in its gradient; else the loss."""
    return f"reward {event.terms['reward']:.3f}" if "reward" in event.terms else f"{event.loss:.3f} bits"
