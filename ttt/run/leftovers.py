"""What finished runs leave behind and nothing needs any more: for `ttt-run clean`.

checkpoint   of a finished run; its newest one stays, for probes and for base=checkpoint
base, data   in the cache, where no run in the folders has it; made again if a run needs it
note         in the cache, of a run that is gone
log          of a sweep in which every run has ended

Links are never followed, and runs that are not done keep everything.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ttt.run.recall import NOTES
from ttt.storage.lock import alive
from ttt.storage.run_folder import RunFolder

SWEEPS = "sweeps"
# The folders of the cache that hold what can be made again.
CACHED = ("base", "data")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can go; `size`: its bytes on the disk."""

    what: str
    path: Path
    size: int

    @classmethod
    def of(cls, what: str, path: Path) -> Leftover:
        return cls(what, path, sum(_size(file) for file in _tree(path)))

    def remove(self) -> None:
        """Delete it. Raises OSError where that is not allowed, or where a run is making it."""
        if self.what == "base":
            lock = self.path.with_suffix(".lock")
            # A run that makes this base holds the lock; Timeout is an OSError.
            with FileLock(lock, timeout=0):
                shutil.rmtree(self.path)
            lock.unlink(missing_ok=True)
        elif self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()


def old_checkpoints(folder: Path, *, keep: int) -> Iterator[Leftover]:
    """The checkpoints of finished runs at or below `folder`, but for the newest `keep`."""
    for run in runs_below(folder):
        # Somebody who adds references to a finished run owns it meanwhile.
        if run.is_done() and not run.lock.is_taken() and not run.checkpoints.is_symlink():
            saved = [path for path in run.checkpoints.glob("task-*") if path.is_dir() and not path.is_symlink()]
            # By number: as text, task-10000 comes before task-9999.
            saved.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])
            yield from (Leftover.of("checkpoint", path) for path in saved[: len(saved) - keep])


def old_logs(folder: Path) -> Iterator[Leftover]:
    """The logs of sweeps at or below `folder` in which no run is running."""
    for root, folders, _ in os.walk(folder):
        parent = Path(root)
        if parent.name == SWEEPS:
            inside = [parent / name for name in sorted(folders) if not (parent / name).is_symlink()]
            yield from (Leftover.of("log", sweep) for sweep in inside if _has_ended(sweep))
            # os.walk goes only into what is left in `folders`.
            folders.clear()


def unused_cache(cache: Path, folders: Sequence[Path]) -> tuple[list[Leftover], int]:
    """What no run below `folders` has in the cache, and how many runs do not say what they have."""
    runs = {run.path.resolve() for folder in folders for run in runs_below(folder)}
    used: set[str] = set()
    noted: set[Path] = set()
    unused = []
    for file in sorted((cache / NOTES).glob("*.json")):
        note = _read(file)
        run = Path(note.get("absolute", "")).resolve()
        noted.add(run)
        if run in runs:
            used |= set(note.get("cached", ()))
        # The note of a run outside the folders stays;
        # what that run has in the cache counts as unused.
        elif not run.is_dir():
            unused.append(Leftover.of("note", file))
    for kind in CACHED:
        places = (path for path in sorted((cache / kind).glob("[!.]*")) if path.is_dir() and not path.is_symlink())
        unused += [Leftover.of(kind, path) for path in places if f"{kind}/{path.name}" not in used]
    return unused, len(runs - noted)


def runs_below(folder: Path) -> Iterator[RunFolder]:
    """Every run at or below `folder`, without following links."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        run = RunFolder(Path(root))
        if run.status_file.name in names:
            folders.clear()
            yield run


def _has_ended(sweep: Path) -> bool:
    jobs = [_read(file) for file in sweep.glob("[0-9]*.json")]
    here = socket.gethostname()
    # Whether a process of another machine is alive cannot be seen from here: it counts as running.
    return not any(job.get("status") == "running" and (job["host"] != here or alive(job["pid"])) for job in jobs)


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content


def _tree(path: Path) -> Iterator[Path]:
    yield path
    for root, _, names in os.walk(path):
        yield from (Path(root, name) for name in names)


def _size(path: Path) -> int:
    return 0 if path.is_dir() and not path.is_symlink() else path.lstat().st_size
