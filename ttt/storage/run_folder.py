"""The run folder: one per config, owned by one process, honest about how the run ended.

config.yaml  environment.json  status.json  metrics.jsonl  results.json  report.html  checkpoints/
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


class BusyError(ValueError):
    """Another live process owns the folder."""


class RunFolder:
    """`status`: running | done | failed | requeue (stopped; the same command resumes)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.results = path / "results.json"
        self.report = path / "report.html"
        self._lock = path / "lock"

    def status(self) -> dict[str, Any]:
        file = self.path / "status.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def open(self) -> None:
        """Make the folder and take it. Raises BusyError naming the owner, ValueError if it can't be written."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise ValueError(f"output_dir: cannot write to {self.path}: {error.strerror}") from error
        self.set_status("running")

    def _take_lock(self) -> None:
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        try:
            handle = os.open(self._lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            other = json.loads(self._lock.read_text() or "{}")
            if self.is_taken():
                raise BusyError(
                    f"{self.path} belongs to a run on {other.get('host')}, pid {other.get('pid')}; "
                    f"if that is dead, delete {self._lock}"
                ) from None
            # Its owner died without a word: the folder is free.
            self._lock.unlink(missing_ok=True)
            self._take_lock()
            return
        with os.fdopen(handle, "w") as file:
            json.dump(owner, file)

    def is_taken(self) -> bool:
        """Does a run own the folder now, as far as one can see from here?"""
        try:
            owner = json.loads(self._lock.read_text() or "{}")
        except FileNotFoundError:
            return False
        return owner.get("host") != socket.gethostname() or alive(int(owner.get("pid", 0)))

    def set_status(self, status: str, *, reason: str = "", numbers: dict[str, float] | None = None) -> None:
        content = {"status": status, "reason": reason, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")} | (numbers or {})
        write_json(self.path / "status.json", content)

    def recorded_code(self) -> str | None:
        """Hash of the code that this folder's run began with."""
        file = self.path / "environment.json"
        code: str | None = json.loads(file.read_text())["code"] if file.is_file() else None
        return code

    def discard(self) -> None:
        """Leave no trace of a run that never began: the folder, and parents that are empty now."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self.path.parents[:3]:
            try:
                parent.rmdir()
            except OSError:
                return

    def close(self) -> None:
        self._lock.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
