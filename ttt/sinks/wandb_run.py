"""The connection to W&B: a run is opened online if a server takes it, else offline.

A server that does not answer holds a run for a bounded time, and costs one warning.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ttt.sinks.base import first_line

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
        disconnect(first_line(error)[:200])
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


def disconnect(reason: str) -> None:
    """Drop the online run of this process, and log why."""
    import wandb

    log.warning("W&B goes on offline: %s", reason)
    # The client still holds the run that it could not send, and with it the id.
    wandb.teardown()


def is_answering() -> bool:
    """Does the server answer a request that needs a login?"""
    import wandb

    try:
        wandb.Api(timeout=PROBE_SECONDS)
    except wandb.errors.AuthenticationError:
        return False
    return True
