"""The run folder: one per config, owned by one process, honest about how the run ended.

config.yaml       the resolved config
environment.json  versions, hardware, fingerprints of code and data
status.json       how the run stands, and why
samples.json      what its sequences look like
metrics.jsonl     every measured number
samples.jsonl     what the model writes (eval.samples)
results.json      R and every metric
tuning.json       how a sweep chose its hyper-parameters (sweep.tune_on), written by the sweep
report.html       its page, with plots/
checkpoints/      the state, after tasks and inside them
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ttt.storage.content import Sample
from ttt.storage.files import write_json
from ttt.storage.lock import Lock
from ttt.storage.whole import check_config_file, read_environment, read_results_file, read_status, read_whole

# The page of a run in its folder, or of many runs in the folder that holds them.
PAGE = "report.html"


class _File:
    """A file of a run, whose path is put together when somebody asks: most are not asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: RunFolder, kind: type) -> Path:
        return folder.path / self._name


class RunFolder:
    """The files of a run by name; what they hold is read elsewhere.

    The status is running | done | failed | requeue (stopped; the same command resumes).
    """

    config = _File("config.yaml")
    environment = _File("environment.json")
    samples = _File("samples.json")
    status_file = _File("status.json")
    checkpoints = _File("checkpoints")
    metrics = _File("metrics.jsonl")
    written = _File("samples.jsonl")
    results = _File("results.json")
    tuning = _File("tuning.json")
    report = _File(PAGE)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = Lock(path / "lock")
        # What `open` saw that cannot be used; the run writes it anew.
        self.damaged: list[str] = []

    def status(self) -> dict[str, Any]:
        """What status.json says; empty for a run that never began, or where that is damaged."""
        try:
            return read_status(self.status_file) if self.status_file.is_file() else {}
        except ValueError:
            return {}

    def is_done(self) -> bool:
        """Is the run done, with its files whole? Those that are not, a run writes anew."""
        return self.status().get("status") == "done" and self.results.is_file() and not self.damages()

    def damages(self) -> list[str]:
        """The small files that cannot be used, each with the reason."""
        checks: dict[Path, Callable[[], object]] = {
            self.status_file: lambda: read_status(self.status_file),
            self.config: lambda: check_config_file(self.config),
            self.environment: lambda: read_environment(self.environment),
            self.results: lambda: read_results_file(self.results),
            self.samples: lambda: read_whole(self.samples, list[Sample]),
        }
        faults = (_fault(check) for file, check in checks.items() if file.is_file())
        return [fault for fault in faults if fault]

    def open(self) -> None:
        """Make the folder, take it, and say that it runs. Raises what `take` raises."""
        self.take()
        self.damaged = self.damages()
        self.set_status("running")

    def take(self) -> None:
        """Own the folder until `close`.

        Raises BusyError naming the owner, ValueError where the folder cannot be written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._refuse_links()
            self.lock.take()
        except OSError as error:
            raise ValueError(f"output_dir: cannot write to {self.path}: {error.strerror}") from error

    def _refuse_links(self) -> None:
        """A run writes its own files: a link that lies in their place would lead elsewhere."""
        for file in (*self.path.iterdir(), *self.checkpoints.iterdir()):
            if file.is_symlink():
                raise ValueError(f"{file}: is a link, and a run writes no files of others; remove it")

    def set_status(self, status: str, *, reason: str = "", numbers: dict[str, float] | None = None) -> None:
        content = {"status": status, "reason": reason, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")} | (numbers or {})
        write_json(self.status_file, content)

    def recorded_code(self) -> str | None:
        """Hash of the code that this folder's run began with."""
        try:
            code: str = read_environment(self.environment)["code"]
        except (OSError, ValueError):
            return None
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
        self.lock.release()


def _fault(check: Callable[[], object]) -> str:
    """What a check raises, in one line; empty where it passes."""
    try:
        check()
    except ValueError as error:
        return str(error)
    return ""
