"""`logger=wandb`: Weights & Biases, online for users who are logged in, else offline.

The runs of a sweep compare without further settings: the project is `logger.project`, the group
is method and stream, the name is method and seed, and the id is the hash of the config. Axes are
metrics of their own (`axis/step`, `axis/tokens`, `axis/task`, `axis/seconds`), because W&B drops
points whose `step=` goes back.

A run that is killed and resumed stays one run. Event n of a run is always row n of its history; so
a resumed run repeats all events, and the sink skips as many as the server has. An offline run
begins a new folder, gets the whole past, and replaces the folder before it.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttt.config.identity import digest
from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import Past, RunInfo
from ttt.sinks.numbers import AXES, FAMILIES, axis_values, event_numbers
from ttt.sinks.summary import pictures, summary
from ttt.sinks.wandb_run import Connection, WandbRun, close_wandb_run, disconnect, is_answering, open_wandb_run
from ttt.sinks.weights import WhichWeights, folder_of
from ttt.storage.run_folder import RunFolder

log = logging.getLogger("ttt")


class WandbSink:
    """Log every event as one row of a W&B run; at the end the summary, R and the run's page."""

    def __init__(self, *, name: str, project: str, mode: Connection, weights: list[WhichWeights]) -> None:
        self.name = name
        self._project, self._mode, self._weights = project, mode, weights
        self._axes: dict[str, float] = {}

    def start(self, run: RunInfo, *, past: Past) -> None:
        self._info, self._past = run, past
        self._begin(self._mode)

    def _begin(self, connection: Connection) -> None:
        """Start a W&B run that will hold all events, and remove folders of earlier ones."""
        filed = WandbRun(
            project=self._project,
            job_type="train",
            id=self._info.id,
            name=self._info.name,
            config=self._info.config | {"environment": _environment(self._info.folder)},
            folder=self._info.folder,
            group=self._info.group,
            tags=self._info.tags,
        )
        folders = self._info.folder / "wandb"
        # Where this run has no folder yet, rows on the server under its id are those of another
        # run, such as one whose folder was removed: they are written over.
        self._run = open_wandb_run(filed, connection=connection, resume=any(folders.glob("*run-*")))
        self._to_skip = self._run.starting_step
        # Synced as well, an earlier folder would put its part of the run on the server again.
        for folder in folders.glob("*run-*"):
            if folder.name != Path(self._run.settings.sync_dir).name:
                shutil.rmtree(folder)
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        for family, axis in FAMILIES.items():
            self._run.define_metric(f"{family}/*", step_metric=axis)

    def __call__(self, event: Event) -> None:
        self._axes = axis_values(event)
        if self._to_skip:
            self._to_skip -= 1
        else:
            self._run.log(self._axes | event_numbers(event))

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        if exit_code == 0:
            # Asked before the tables are sent: the client would wait for their upload for minutes.
            if not self._run.settings._offline and not is_answering():
                disconnect(f"no answer from {self._run.settings.base_url}")
                self._begin("offline")
                for event in self._past():
                    self(event)
            self._summarize(results, numbers)
        return close_wandb_run(self._run, exit_code=exit_code)

    def _summarize(self, results: Results, costs: Mapping[str, float]) -> None:
        """Send all metrics and costs, R as tables and pictures, and the page of the run."""
        import wandb

        self._run.summary.update(summary(results, costs))
        shown: dict[str, Any] = {}
        columns: list[str | int] = ["after task", *(f"{j + 1} {name}" for j, name in enumerate(results.tasks))]
        for mode, picture in pictures(results):
            r = results.matrix(mode, "loss").tolist()
            rows = [[i, *(x if math.isfinite(x) else None for x in row)] for i, row in enumerate(r)]
            shown[f"R/{mode}/loss"] = wandb.Table(columns=columns, data=rows)
            shown[f"R/{mode}/loss_picture"] = wandb.Image(picture)
        # A run that is shown again has this row already, behind those of its events.
        if not self._to_skip:
            self._run.log(self._axes | shown)
        page = RunFolder(self._info.folder).report
        if page.exists():
            artifact = wandb.Artifact(f"report-{self._run.id}", type="report")
            artifact.add_file(str(page))
            self._run.log_artifact(artifact)
        for which in self._weights:
            self._send_weights(which)

    def _send_weights(self, which: WhichWeights) -> None:
        """Send a checkpoint as it lies on the disk; W&B keeps one that several runs share once."""
        import wandb

        folder = folder_of(self._info, which)
        if folder is None:
            log.warning("logger.weights=[%s]: this run has no such weights", which)
            return
        artifact = wandb.Artifact(f"{which}-{folder.name[:8] if which == 'base' else self._run.id}", type="model")
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)


def _environment(folder: Path) -> dict[str, Any]:
    """Return the parts of environment.json that tell runs apart."""
    recorded = json.loads(RunFolder(folder).environment.read_text(encoding="utf-8"))
    data = recorded["data"]
    # A thousand tasks would be a thousand columns in W&B's table of runs.
    compact = {"data": {**data, "tasks": digest(data["tasks"])}}
    return {name: recorded[name] for name in ("git", "code", "versions", "device")} | compact
