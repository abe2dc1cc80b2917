"""A sweep on the screen: a line for every run that ends, and on a terminal what runs now and the
time left."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ttt.cli.announce import read_announcement
from ttt.cli.console import Console
from ttt.cli.runs.display import EVERYTHING, Display, span
from ttt.cli.sweeps.job import Job, announcement_file, read_jobs
from ttt.storage.journal import last_record
from ttt.storage.run_folder import RunFolder

# Seconds between two looks at the files of the jobs.
INTERVAL = 0.5


class Overview:
    """Reads the files of the jobs in `folder`, whatever starts them.

    `varied`: the keys that tell the runs apart.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total: int,
        varied: Collection[str],
        objective: str = "",
        display: Display = EVERYTHING,
    ) -> None:
        self.console = Console(highlight=False, quiet=display.quiet)
        self._moves = self.console.is_terminal and not (display.plain or display.quiet)
        self._objective = objective
        self._folder, self._total, self._varied = folder, total, varied
        self._jobs: dict[int, Job] = {}
        self._said: set[int] = set()
        self._start = time.monotonic()

    def note(self, line: str, *, style: str = "") -> None:
        self.console.print(line, markup=False, soft_wrap=True, style=style)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Show the sweep while open."""
        stop = threading.Event()
        live = Live(console=self.console, transient=True, auto_refresh=False) if self._moves else None
        watcher = threading.Thread(target=self._watch, args=(stop, live), daemon=True)
        if live:
            live.start()
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            if live:
                live.stop()
            # A run may have ended since the last look.
            self._look()

    def _watch(self, stop: threading.Event, live: Live | None) -> None:
        while not stop.wait(INTERVAL):
            self._look()
            if live:
                live.update(self._picture(), refresh=True)

    def _look(self) -> None:
        """Read the jobs that had not ended; print a line for each that has ended since."""
        ended = {number for number, job in self._jobs.items() if job.ended}
        self._jobs |= {job.number: job for job in read_jobs(self._folder, but=ended)}
        for job in sorted(self._jobs.values(), key=lambda job: job.started + (job.seconds or 0.0)):
            if job.ended and job.number not in self._said:
                self._said.add(job.number)
                self.note(self._line(job), style="red" if job.status == "failed" else "")

    def count(self, status: str) -> int:
        return sum(job.status == status for job in self._jobs.values())

    def label(self, job: Job) -> str:
        return self.shown(job.overrides)

    def shown(self, words: Sequence[str]) -> str:
        """Those of some words that tell the runs apart."""
        return " ".join(word for word in words if word.partition("=")[0].lstrip("+") in self._varied) or "run"

    def _line(self, job: Job) -> str:
        state = {
            "done": "done" if not job.before else "done before" + (", with other code" if job.is_of_other_code else ""),
            "failed": f"FAILED with exit code {job.code}: {job.reason}",
            "stopped": f"stopped: {job.reason}",
            "skipped": f"not started: {job.reason}",
        }[job.status]
        score = "" if job.objective is None else f", {self._objective} {job.objective:.4f}"
        return f"[{job.number}/{self._total}] {self.label(job)}: {state}{score} ({job.seconds or 0:.0f} s)"

    def _picture(self) -> RenderableType:
        running = sorted((job for job in self._jobs.values() if not job.ended), key=lambda job: job.number)
        ended = len(self._jobs) - len(running)
        done, failed = self.count("done"), self.count("failed")
        waiting = max(self._total - len(self._jobs), 0)
        head = Table.grid(padding=(0, 1))
        left = self._left(running, waiting)
        counts = f"{done} done, {failed} failed, {len(running)} running, {waiting} waiting; {left}"
        head.add_row(
            ProgressBar(total=self._total, completed=ended, width=16), Text(counts, no_wrap=True, overflow="ellipsis")
        )
        rows = Table.grid(padding=(0, 1), expand=True)
        rows.add_column(justify="right", no_wrap=True)
        rows.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        rows.add_column(justify="right", no_wrap=True)
        rows.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for job in running[: max(self.console.height - 4, 1)]:
            elapsed = f"{max(time.time() - job.started, 0):.0f} s"
            rows.add_row(f"[{job.number}]", Text(self.label(job)), elapsed, Text(doing(self._folder, job), style="dim"))
        return Group(head, rows)

    def _left(self, running: list[Job], waiting: int) -> str:
        """Time left if runs take as long as finished ones did, with as many at a time as now."""
        took = [job.seconds for job in self._jobs.values() if job.status == "done" and job.seconds and not job.before]
        if not took:
            return "time left unknown"
        mean = sum(took) / len(took)
        rest = sum(max(mean - (time.time() - job.started), 0.0) for job in running)
        left = (rest + waiting * mean) / max(len(running), 1)
        return f"about {span(left)} left" if left >= 1 else "any moment now"

    def settle(self) -> None:
        """Take the runs so far for all: a search may need fewer runs than it was allowed."""
        self._total = len(self._jobs)

    def close(self) -> int:
        """Print the last line; return the exit code: 0 if every run is done, else 1."""
        done, failed = self.count("done"), self.count("failed")
        before = sum(job.before for job in self._jobs.values())
        parts = [f"{done} of {self._total} runs done" + (f" ({before} of them before)" if before else "")]
        parts += [f"{failed} failed"] if failed else []
        compare = f"; compare: ttt-compare {shlex.join(self._folders())}" if done else ""
        self.note(f"{', '.join(parts)}, in {span(time.monotonic() - self._start)}{compare}")
        upload = self._upload()
        if upload:
            self.note(upload)
        if done < self._total:
            rest = f"{self._total - done} of {self._total} runs did not finish; the same command runs those again"
            print(rest, file=sys.stderr)
        return int(done < self._total)

    def _upload(self) -> str:
        """The command that uploads what W&B could not get while the runs ran; empty for none."""
        offline = "wandb/offline-run-*"
        count = sum(any(Path(job.folder).glob(offline)) for job in self._jobs.values() if job.folder)
        # A task's own folder holds methods and seeds; the one above it holds tasks.
        tasks = {Path(job.folder).parents[1] for job in self._jobs.values() if job.folder}
        places = [f"{root}/{'*/*' if Path(root) in tasks else '*/*/*'}/{offline}" for root in self._folders()]
        return f"W&B: {count} runs are offline; to upload: wandb sync {' '.join(places)}" if count else ""

    def best(self, objective: str, direction: str) -> str:
        """The best run of a search, in words."""
        scored = [job for job in self._jobs.values() if job.objective is not None]
        if not scored:
            return f"no run gave a value of {objective}"
        pick = max if direction == "maximize" else min
        job = pick(scored, key=lambda job: job.objective or 0.0)
        return f"best: [{job.number}] {self.label(job)}: {objective} {job.objective:.4f}"

    def _folders(self) -> list[str]:
        """The folders to compare: a task's own, or the folder that holds several tasks."""
        folders = {Path(job.folder).parents[1] for job in self._jobs.values() if job.folder}
        roots = sorted({folder.parent for folder in folders})
        return [str(r if len(inside := [f for f in folders if f.parent == r]) > 1 else inside[0]) for r in roots]


def _score(event: Mapping[str, Any]) -> str:
    """What a row of R says of the tasks learned so far, in words; of all before the stream."""
    seen = set(event["seen"]) or set(event["columns"])
    scores = event["tasks"].get("fast") or next(iter(event["tasks"].values()))
    quantity = "success" if "success" in scores else "loss"
    pairs = zip(event["columns"], scores[quantity], strict=True)
    values = [value for task, value in pairs if task in seen and value is not None]
    unit = quantity if quantity == "success" else "bits"
    return f": {sum(values) / len(values):.3f} {unit}" if values else ""


def doing(folder: Path, job: Job) -> str:
    """What a running job does now: what it measured last, or is about to measure."""
    announced = read_announcement(announcement_file(folder, job.number))
    if "folder" not in announced:
        return "starting"
    if "waits" in announced:
        return f"waits: {announced['waits']}"
    # The sweep runs in the folder in which its runs run.
    journal = RunFolder(Path(announced["folder"])).metrics
    if not journal.is_file():
        return "base"
    event = last_record(journal)
    if event is None:
        return "measuring"
    if event["event"] == "trained":
        loss = "-" if event["loss"] is None else f"{event['loss']:.2f}"
        step = f"step {event['task_step']}/{event['task_steps']}"
        return f"task {event['task']} {event['task_name']}: {step}, {loss} bits"
    if event["event"] == "evaluated":
        when = f"after task {event['row']}" if event["row"] else "before the stream"
        return f"measured {when}{_score(event)}"
    return f"measuring task {event['task']}"
