"""The run folder: one per config, owned by one process, honest about how the run ended.

config.yaml       the resolved config
environment.json  versions, hardware, fingerprints of code and data
status.json       how the run stands, and why
samples.json      what its sequences look like
metrics.jsonl     every measured number
results.json      R and every metric
tuning.json       how a sweep chose its hyper-parameters (sweep.tune_on), written by the sweep
report.html       its page, with plots/
checkpoints/      the state after each task
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from ttt.storage.files import write_json

# The page of a run in its folder, or of many runs in the folder that holds them.
PAGE = "report.html"


class BusyError(ValueError):
    """Another live process owns the folder."""


class RunFolder:
    """The files of a run by name; what they hold is read elsewhere.

    The status is running | done | failed | requeue (stopped; the same command resumes).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.samples = path / "samples.json"
        self.status_file = path / "status.json"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.results = path / "results.json"
        self.tuning = path / "tuning.json"
        self.report = path / PAGE
        self.lock = path / "lock"

    def status(self) -> dict[str, Any]:
        """What status.json says; empty for a run that never began."""
        return json.loads(self.status_file.read_text()) if self.status_file.is_file() else {}

    def is_done(self) -> bool:
        return self.status().get("status") == "done"

    def open(self) -> None:
        """Make the folder, take it, and say that it runs. Raises what `take` raises."""
        self.take()
        self.set_status("running")

    def take(self) -> None:
        """Own the folder until `close`.

        Raises BusyError naming the owner, ValueError where the folder cannot be written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise ValueError(f"output_dir: cannot write to {self.path}: {error.strerror}") from error

    def _take_lock(self) -> None:
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        try:
            handle = os.open(self.lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if self.is_taken():
                raise BusyError(self.taken_by()) from None
            # The owner died without removing its lock: the folder is free.
            self.lock.unlink(missing_ok=True)
            self._take_lock()
            return
        with os.fdopen(handle, "w") as file:
            json.dump(owner, file)

    def is_taken(self) -> bool:
        """Does a run own the folder now, as far as one can see from here?"""
        try:
            owner = json.loads(self.lock.read_text() or "{}")
        except FileNotFoundError:
            return False
        return owner.get("host") != socket.gethostname() or alive(int(owner.get("pid", 0)))

    def taken_by(self) -> str:
        """Say who owns the folder, and what to do if that is wrong."""
        try:
            owner = json.loads(self.lock.read_text() or "{}")
        except FileNotFoundError:
            owner = {}
        return (
            f"{self.path} belongs to a run on {owner.get('host')}, pid {owner.get('pid')}; "
            f"if that is dead, delete {self.lock}"
        )

    def set_status(self, status: str, *, reason: str = "", numbers: dict[str, float] | None = None) -> None:
        content = {"status": status, "reason": reason, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")} | (numbers or {})
        write_json(self.status_file, content)

    def recorded_code(self) -> str | None:
        """Hash of the code that this folder's run began with."""
        if not self.environment.is_file():
            return None
        code: str = json.loads(self.environment.read_text())["code"]
        return code

    def error_log(self, rank: int) -> Path:
        """Where a process of the run leaves its traceback."""
        return self.path / (f"error-process{rank}.log" if rank else "error.log")

    def discard(self) -> None:
        """Leave no trace of a run that never began: remove its folder and parents left empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self.path.parents[:3]:
            try:
                parent.rmdir()
            except OSError:
                return

    def close(self) -> None:
        """Give the folder up."""
        self.lock.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Does a process of this number run on this host?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
