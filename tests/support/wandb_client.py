"""What tests of W&B share: a login at the stand-in, the client's own command, and what a run must look like there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from harness import FAST, TINY

from ttt.sinks.numbers import axes, numbers, past

TRACKED = tuple(o for o in TINY if not o.startswith("logger"))
ONLINE = (*TRACKED, *FAST, "logger=wandb", "logger.mode=online")
# Long enough to be killed inside a task.
LONG = ("trainer.report_every=1", "task.steps_per_task=60")
ROWS_OF_ONE_TASK = 61
# What differs between two executions of one step.
TIMES = ("axis/seconds", "train/tokens_per_second")


@contextlib.contextmanager
def login(url):
    """The environment of one who is logged in at `url`, and sends at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", url)
        patch.setenv("WANDB_API_KEY", "x" * 40)
        patch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "0.1")
        yield


def client(*words, folder):
    """W&B's own command."""
    command = [sys.executable, "-m", "wandb", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def logged(row):
    """A row of history without what W&B adds."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def untimed(row):
    return {name: value for name, value in logged(row).items() if name not in TIMES}


def journal(run):
    return [axes(event) | numbers(event) for event in past(run / "metrics.jsonl")]


def results(run):
    return json.loads((run / "results.json").read_text())


def check_complete(server, name, run):
    """Every number once and in order, the summary, R, and how it ended."""
    *rows, last = server.history(name)
    assert [row["_step"] for row in (*rows, last)] == list(range(len(rows) + 1))
    assert [untimed(row) for row in rows] == [untimed(row) for row in journal(run)]
    assert server.run(name)["exitcode"] == 0
    summary, files = server.run(name)["summary"], server.run(name)["files"]
    expected = {key: value for key, value in results(run)["metrics"].items() if value is not None}
    assert {key: summary[key] for key in expected} == expected
    for mode in results(run)["rows"][0]["scores"]:
        table = json.loads(files[last[f"R/{mode}/loss"]["path"]])
        scores = [row["scores"][mode]["loss"] for row in results(run)["rows"]]
        assert table["data"] == [[i, *row] for i, row in enumerate(scores)]
        assert table["columns"][0] == "after task"
        assert files[last[f"R/{mode}/loss_picture"]["path"]].startswith(b"\x89PNG")


def wait_for(reached, *, process):
    for _ in range(12000):
        if reached():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def kill(process, *, with_client=False):
    """SIGKILL; W&B's own process is left to itself, or dies too, as when the machine goes down."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    process.send_signal(signal.SIGKILL)
    for child in found.stdout.split() if with_client else []:
        os.kill(int(child), signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def lines(folder):
    """Numbers of a run that are on the disk."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob("outputs/*/*/*/metrics.jsonl"))
