"""Drive the real W&B client against a stand-in server, and check what a run looks like there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest
from forked import Forked
from harness import FAST, TINY

from ttt.cli.run import main
from ttt.results.events import from_record
from ttt.run.session import Session
from ttt.sinks.numbers import axis_values, event_numbers
from ttt.storage.journal import read

TRACKED = tuple(o for o in TINY if not o.startswith("logger"))
ONLINE = (*TRACKED, *FAST, "logger=wandb", "logger.mode=online")
# Long enough to be killed inside a task.
LONG = ("trainer.report_every=1", "task.steps_per_task=60")
ROWS_OF_ONE_TASK = 61
# These differ between two executions of one step.
TIMES = ("axis/seconds", "train/tokens_per_second")


@contextlib.contextmanager
def login(url):
    """Set the environment of a user who is logged in at `url`, with a client that sends at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", url)
        patch.setenv("WANDB_API_KEY", "x" * 40)
        patch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "0.1")
        yield


def start_slowly(args, folder):
    """Start the command as a process that publishes 20 events a second: its tracker keeps up."""
    return Forked(_slowly, ["ttt-run", *args], folder)


def _slowly():
    publish = Session.publish

    def publish_slowly(session, event):
        publish(session, event)
        time.sleep(0.05)

    with mock.patch.object(Session, "publish", publish_slowly):
        main()


def client(*words, folder):
    """Run W&B's own command and return what it prints."""
    command = [sys.executable, "-m", "wandb", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def logged(row):
    """Return a row of history without the fields that W&B adds."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def untimed(row):
    return {name: value for name, value in logged(row).items() if name not in TIMES}


def journal(run):
    """Return the rows that a run must have on the server, by its metrics.jsonl."""
    events = map(from_record, read(run / "metrics.jsonl"))
    return [axis_values(event) | event_numbers(event) for event in events]


def results(run):
    return json.loads((run / "results.json").read_text())


def check_complete(server, name, run):
    """Check that the server has every number once and in order, the summary, R, and a clean end."""
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
    raise AssertionError("not reached within two minutes")


def kill(process, *, with_client=False):
    """Send SIGKILL; W&B's own process goes on, or dies too, as when the machine goes down."""
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    process.send_signal(signal.SIGKILL)
    for child in children.stdout.split() if with_client else []:
        os.kill(int(child), signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def lines(folder):
    """Count the events of a run that are on the disk."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob("outputs/*/*/*/metrics.jsonl"))
