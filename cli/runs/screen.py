"""What a run shows: what will run, how far it is, what came out.

On a terminal it is live, elsewhere lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ttt.cli.console import Console, say_error
from ttt.cli.runs.display import EVERYTHING, Display
from ttt.cli.runs.live import Live, label, learned
from ttt.cli.runs.outcome import say, show_results
from ttt.config.messages import counted
from ttt.results.events import Damaged, Evaluated, Event, Notice, Outdated, Trained, Waiting
from ttt.results.results import Results
from ttt.run.assemble import Assembly
from ttt.run.endings import Outcome
from ttt.run.exit_codes import ExitCode
from ttt.storage.environment import device_name
from ttt.storage.run_folder import RunFolder


class Screen:
    """The watcher that prints. It has one console, so that bars and lines never mix."""

    def __init__(self, display: Display = EVERYTHING) -> None:
        self.console = Console(highlight=False, quiet=display.quiet)
        self._display = display
        self._live: Live | None = None
        self._last: Trained | None = None

    def announce(self, assembly: Assembly, folder: RunFolder, device: torch.device) -> None:
        config, stream = assembly.config, assembly.stream
        parameters = sum(p.numel() for p in assembly.learner.model.parameters())
        tokens = stream.steps * stream.phases[0].batch(0).num_tokens
        name = {group: config[group]["name"] for group in ("model", "base", "adapter", "optimizer", "strategy")}
        self.note(
            f"stream   {assembly.info.task} of {assembly.source.name}: {counted(len(stream.tasks), 'task')}, "
            f"{stream.scenario}-incremental, {tokens:,} tokens"
        )
        self.note(f"learner  {name['model']}, {parameters:,} parameters; adapter {name['adapter']}")
        self.note(f"reading  {assembly.learner.adapter.executor(length=stream.seq_len, dtype=assembly.settings.dtype)}")
        self.note(f"slow     base {name['base']}, optimizer {name['optimizer']}, strategy {name['strategy']}")
        precision, threads = assembly.settings.precision, torch.get_num_threads()
        world = assembly.settings.world
        many = f"{world.size} x " if world.size > 1 else ""
        how = f", {world.strategy}" if world.size > 1 else ""
        self.note(f"device   {many}{device_name(device)}{how}, {precision}, {threads} threads; seed {config['seed']}")
        self.note(f"files    {folder.path}")

    def note(self, line: str) -> None:
        say(self.console, line)

    @contextmanager
    def live(self, assembly: Assembly) -> Iterator[None]:
        """Show progress while open: over the stream, and over the steps of a task."""
        if not self.console.is_terminal or self._display.plain or self._display.quiet:
            yield
            return
        with Live.of(assembly, self.console) as self._live:
            try:
                yield
            finally:
                self._live = None

    def __call__(self, event: Event | Notice) -> None:
        if self._live is not None:
            self._live.hear(event)
        if isinstance(event, Waiting):
            self.note("base     another run trains it; waiting for that")
        elif isinstance(event, Outdated):
            self.note("base     the one that comes with ttt gives other numbers with this code; training it anew")
        elif isinstance(event, Damaged):
            self.note(f"base     damaged in the cache, training it anew: {event.reason}")
        elif isinstance(event, Evaluated):
            self.note(_evaluated(event, self._last))
        elif isinstance(event, Trained):
            self._last = event
            if self._display.verbose:
                self.note(f"{label(event)}: step {event.task_step}/{event.task_steps}, {_pace(event)}")
            elif self._live is None and event.task == 0 and event.task_step == event.task_steps:
                self.note(f"base: {event.task_steps} steps, {_pace(event)}")

    def ended(self, outcome: Outcome, results: Results, folder: RunFolder) -> None:
        """Show the results, or why there are none."""
        if outcome.code == ExitCode.DONE:
            show_results(self.console, results, folder, where=outcome.where)
            return
        say_error(f"ttt-run: stopped: {outcome.reason}")
        resumable = outcome.status == "requeue"
        hint = "the same command resumes" if resumable else f"see {folder.path}"
        say_error(f"ttt-run: {hint}")


def _pace(event: Trained) -> str:
    return f"{learned(event)}, {event.tokens_per_second:,.0f} tokens/s"


def _evaluated(event: Evaluated, last: Trained | None) -> str:
    """The line of a task: the mean loss or success over the tasks measured so far.

    Before the stream it is the mean over all tasks.
    """
    # These are places within the row, because thinned rows lack some of the tasks.
    so_far = [k for k, j in enumerate(event.columns) if j in event.seen or event.row == 0]
    parts, unit = [], "bits"
    for mode, quantities in event.tasks.items():
        unit = "success" if "success" in quantities else unit
        values = [quantities["success" if unit == "success" else "loss"][k] for k in so_far] or [float("nan")]
        parts.append(f"{mode} {sum(values) / len(values):.3f}")
    if event.row == 0 or last is None:
        return f"before the stream: all tasks {', '.join(parts)} {unit}"
    which = "tasks so far" if len(so_far) == len(event.seen) else f"{len(so_far)} of the tasks so far"
    return f"task {event.row} {last.task_name}: training {_pace(last)}; {which} {', '.join(parts)} {unit}"
