"""How tests drive the real thing: the command in this process, or as a user's subprocess."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

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
    """The command in this process, typed in `folder`."""
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


def start(args: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """The command as a process of its own, typed in `folder`."""
    command = [sys.executable, "-m", "ttt.cli.run", *args]
    environment = os.environ | {"PYTHONSAFEPATH": "1", "COLUMNS": "120"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=_heed_ctrl_c
    )


def _heed_ctrl_c() -> None:
    """A shell starts what it puts into the background with Ctrl-C ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_apart(args: Sequence[str], folder: Path) -> Outcome:
    process = start(args, folder)
    out, err = process.communicate(timeout=300)
    return Outcome(process.returncode, out, err)


def only_run(folder: Path) -> Path:
    """The one run folder below `folder`/outputs."""
    (found,) = (path.parent for path in folder.glob("outputs/*/*/*/status.json"))
    return found
