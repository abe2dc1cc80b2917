"""Drive the real command: in this process, in a forked one, or in a new interpreter."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from forked import Forked
from hydra.core.global_hydra import GlobalHydra

from ttt.cli import run as cli_run

# A run of seconds: synthetic data, a tiny model, a few steps.
SMALL = (
    "source=recall",
    "task.num_tasks=3",
    "task.held_out=10",
    "task.seq_len=16",
    "task.batch_size=2",
    "task.steps_per_task=3",
    "task.eval_sequences=2",
    "model.width=16",
    "model.heads=2",
    "model.mlp_width=24",
    "model.window=4",
    "trainer.threads=1",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    # Tests look at the checkpoint of each task, though tasks are short.
    "trainer.save_task_seconds=0",
    "logger=none",
    "report=false",
)
TINY = (*SMALL, "base.steps=3", "base.warmup=1")
FAST = ("adapter=mlp_fast", "adapter.chunk=4")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def run_here(args: Sequence[str], folder: Path) -> Outcome:
    """Run the command in this process, typed in `folder`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    GlobalHydra.instance().clear()
    with (
        mock.patch.object(sys, "argv", ["ttt-run", *args]),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli_run.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def start(args: Sequence[str], folder: Path, *, variables: Mapping[str, str] | None = None) -> Forked:
    """Start the command as a process of its own, typed in `folder`, under `variables`."""
    return Forked(cli_run.main, ["ttt-run", *args], folder, variables=variables)


def run_apart(args: Sequence[str], folder: Path) -> Outcome:
    """Run the command as a process of its own to its end."""
    process = start(args, folder)
    out, err = process.communicate()
    return Outcome(process.returncode, out, err)


def run_cold(args: Sequence[str], folder: Path) -> Outcome:
    """Run the command in a new interpreter, where the start itself is what a test looks at."""
    command = [sys.executable, "-m", "ttt.cli.run", *args]
    environment = os.environ | {"PYTHONSAFEPATH": "1", "COLUMNS": "120"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def only_run(folder: Path) -> Path:
    """Return the one run folder below `folder`/outputs."""
    (status,) = folder.glob("outputs/*/*/*/status.json")
    return status.parent
