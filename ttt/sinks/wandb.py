"""`logger=wandb`: Weights & Biases, online for those who are logged in, else offline.

Runs of a sweep compare by themselves: project = `logger.project`, group = method and stream, name = method
and seed, id = hash of the config. Axes are metrics of their own (`axis/step`, `axis/tokens`, `axis/task`,
`axis/seconds`), because points whose `step=` goes back are dropped.

A run that is killed and resumed stays one run. Event n of a run is row n of its history, always; so a resumed
run tells everything again, and what the server has already is passed over by its number. An offline run begins
a new folder, gets the whole past, and replaces the folder before it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttt.config.identity import digest
from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import RunInfo, first_line
from ttt.sinks.numbers import AXES, FAMILIES, axes, finite, numbers, past
from ttt.storage.journal import plain

if TYPE_CHECKING:
    import wandb

log = logging.getLogger("ttt")


class WandbSink:
    # A server that does not answer holds a run no longer than this: at its start, and twice at its end.
    INIT_SECONDS = 15.0
    PROBE_SECONDS = 5
    FINISH_SECONDS = 15.0

    def __init__(self, *, name: str, project: str, mode: str) -> None:
        if mode not in ("auto", "online", "offline"):
            raise ValueError(f"logger.mode={mode}: must be one of auto, online, offline")
        self.name = name
        self._project, self._mode = project, mode
        self._axes: dict[str, float] = {}

    def start(self, run: RunInfo) -> None:
        # What the client reports about itself waits for the server too, half a minute at the end.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        # Where it found its key is no news.
        wandb.setup(wandb.Settings(silent=True))
        self._info = run
        try:
            self._begin(wanted_mode(self._mode))
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            self._go_offline(first_line(error)[:200])

    def _begin(self, mode: str) -> None:
        """Start a W&B run that is to hold everything, and remove those before it: synced too, they were twice the run.

        Raises W&B's errors if nobody answers, or not with a run.
        """
        folders = self._info.folder / "wandb"
        # Only a run that has shown itself may have rows on the server; another one of its id is written over.
        resume = mode == "online" and any(folders.glob("*run-*"))
        self._run = self._init(mode, resume=resume)
        self._told = self._run.starting_step
        for folder in folders.glob("*run-*"):
            if folder.name != Path(self._run.settings.sync_dir).name:
                shutil.rmtree(folder)
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        for family, axis in FAMILIES.items():
            self._run.define_metric(f"{family}/*", step_metric=axis)

    def _init(self, mode: str, *, resume: bool) -> wandb.Run:
        import wandb

        run = self._info
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            x_disable_stats=True,
            init_timeout=self.INIT_SECONDS,
            finish_timeout=self.FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        return wandb.init(
            project=self._project,
            group=run.group,
            job_type="train",
            name=run.name,
            id=run.id,
            tags=list(run.tags),
            config=run.config | {"environment": _environment(run.folder)},
            dir=run.folder,
            mode=mode,  # type: ignore[arg-type]
            resume="allow" if resume else None,
            settings=settings,
        )

    def _go_offline(self, reason: str) -> None:
        import wandb

        log.warning("logger=wandb goes on offline: %s", reason)
        # The client keeps a run that it could not send, and its id is taken.
        wandb.teardown()
        self._begin("offline")

    def __call__(self, event: Event) -> None:
        self._axes = axes(event)
        if self._told:
            self._told -= 1
        else:
            self._run.log(self._axes | numbers(event))

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        if exit_code == 0:
            if not self._run.settings._offline and not self._answers():
                self._go_offline(f"no answer from {self._run.settings.base_url}")
                for event in past(self._info.folder / "metrics.jsonl"):
                    self(event)
            self._summarize(results, numbers)
        where = f"offline; to upload: wandb sync {self._run.settings.sync_dir}"
        if not self._run.settings._offline:
            where = f"{self._run.url}"
        try:
            self._run.finish(exit_code=exit_code)
        except TimeoutError:
            log.warning("logger=wandb: not all was sent; to upload: wandb sync %s", self._run.settings.sync_dir)
        return f"W&B: {where}"

    def _answers(self) -> bool:
        """Asked before tables are sent, which else wait for the server for long."""
        import wandb

        try:
            wandb.Api(timeout=self.PROBE_SECONDS)
        except wandb.errors.AuthenticationError:
            return False
        return True

    def _summarize(self, results: Results, numbers: Mapping[str, float]) -> None:
        """All metrics and what the run took, R as tables and pictures, and the report."""
        import wandb

        from ttt.figures.heat import heat, pixels

        summary = finite(results.metrics()) | {f"cost/{name}": value for name, value in numbers.items()}
        self._run.summary.update(summary)
        shown: dict[str, Any] = {}
        for mode in results.modes:
            r = results.matrix(mode, "loss")
            columns: list[str | int] = ["after task", *(f"{j + 1} {name}" for j, name in enumerate(results.tasks))]
            # What was not measured is an empty cell.
            rows = [[i, *plain(row)] for i, row in enumerate(r.tolist())]
            shown[f"R/{mode}/loss"] = wandb.Table(columns=columns, data=rows)
            shown[f"R/{mode}/loss_picture"] = wandb.Image(pixels(heat(r, title=f"loss in bits, mode {mode}")))
        self._run.log(self._axes | shown)
        report = self._info.folder / "report.html"
        if report.exists():
            page = wandb.Artifact(f"report-{self._run.id}", type="report")
            page.add_file(str(report))
            self._run.log_artifact(page)


def wanted_mode(typed: str) -> str:
    """What `auto` means here: what the environment says, else online for those who are logged in."""
    import wandb

    if typed != "auto":
        return typed
    return os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")


def _environment(folder: Path) -> dict[str, Any]:
    """Of environment.json what tells runs apart: code, versions, data. A thousand tasks are one fingerprint."""
    recorded = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    kept = {name: recorded[name] for name in ("git", "code", "versions", "device")}
    data = recorded["data"]
    return kept | {"data": {**data, "tasks": digest(data["tasks"])}}
