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
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ttt.config.identity import digest
from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import Past, RunInfo, first_line
from ttt.sinks.numbers import AXES, FAMILIES, axis_values, event_numbers
from ttt.sinks.summary import pictures, summary
from ttt.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import wandb

log = logging.getLogger("ttt")
Connection = Literal["auto", "online", "offline"]
# Seconds for which a server that does not answer holds a run: at its start, before its tables are
# sent, and at its end.
INIT_SECONDS, PROBE_SECONDS, FINISH_SECONDS = 15.0, 5, 15.0


@dataclass(frozen=True)
class WandbRun:
    """How a run is filed in W&B; its files lie in `folder`/wandb."""

    project: str
    job_type: Literal["train", "report"]
    id: str
    name: str
    config: dict[str, Any]
    folder: Path
    group: str | None = None
    tags: tuple[str, ...] = ()


def open_wandb_run(filed: WandbRun, *, connection: Connection, resume: bool) -> wandb.Run:
    """Start a W&B run, offline where no server takes it: then one warning gives the reason.

    With `resume`, a run of this id that the server has goes on; without, it is written over.
    """
    # The client also reports its own errors, and at its end waits half a minute for that server.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    # Silent before the login too, or the client prints where it read its key.
    wandb.setup(wandb.Settings(silent=True))
    mode = _mode(connection)
    try:
        return _init(filed, mode=mode, resume=resume and mode == "online")
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        _disconnect(first_line(error)[:200])
        return _init(filed, mode="offline", resume=False)


def close_wandb_run(run: wandb.Run, *, exit_code: int = 0) -> str:
    """Finish a W&B run, and return a line that says where it is."""
    # The client warns when an offline run is asked for its address.
    is_offline, files = run.settings._offline, run.settings.sync_dir
    where = f"offline; to upload: wandb sync {files}" if is_offline else str(run.url)
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        log.warning("W&B: not all was sent; to upload: wandb sync %s", files)
    return f"W&B: {where}"


def _mode(connection: Connection) -> str:
    """Return the mode for W&B; `auto` is WANDB_MODE, else online for users who are logged in."""
    import wandb

    if connection != "auto":
        return connection
    return os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")


def _init(filed: WandbRun, *, mode: str, resume: bool) -> wandb.Run:
    """Start a run in this mode. Raises W&B's CommError or UsageError where no server takes it."""
    import wandb

    _forget_exit_hook()
    return wandb.init(
        project=filed.project,
        group=filed.group,
        job_type=filed.job_type,
        name=filed.name,
        id=filed.id,
        tags=list(filed.tags),
        config=filed.config,
        dir=filed.folder,
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if resume else None,
        settings=wandb.Settings(
            # The screen belongs to the run, and environment.json has the git state.
            console="off",
            silent=True,
            disable_git=True,
            x_disable_stats=True,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        ),
    )


def _forget_exit_hook() -> None:
    """Let the process end without the client, which would wait there until a slow server has all.

    Runs are closed by `close_wandb_run`, which waits for a bounded time.
    """
    import wandb

    # There is no public way; a client without this method waits.
    forget = getattr(wandb.setup().ensure_service(), "_cleanup", None)
    if forget is not None:
        forget()


def _disconnect(reason: str) -> None:
    """Drop the online run of this process, and log why."""
    import wandb

    log.warning("W&B goes on offline: %s", reason)
    # The client still holds the run that it could not send, and with it the id.
    wandb.teardown()


class WandbSink:
    """Log every event as one row of a W&B run; at the end the summary, R and the run's page."""

    def __init__(self, *, name: str, project: str, mode: Connection) -> None:
        self.name = name
        self._project, self._mode = project, mode
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
            if not self._run.settings._offline and not _answers():
                _disconnect(f"no answer from {self._run.settings.base_url}")
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


def _answers() -> bool:
    """Does the server answer a request that needs a login?"""
    import wandb

    try:
        wandb.Api(timeout=PROBE_SECONDS)
    except wandb.errors.AuthenticationError:
        return False
    return True


def _environment(folder: Path) -> dict[str, Any]:
    """Return the parts of environment.json that tell runs apart."""
    recorded = json.loads(RunFolder(folder).environment.read_text(encoding="utf-8"))
    data = recorded["data"]
    # A thousand tasks would be a thousand columns in W&B's table of runs.
    compact = {"data": {**data, "tasks": digest(data["tasks"])}}
    return {name: recorded[name] for name in ("git", "code", "versions", "device")} | compact
