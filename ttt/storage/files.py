"""Files are written whole: beside the target, flushed to the disk, then renamed over it.

.NAME.PID       what a process is writing, until it gets its name
.NAME.old.PID   a folder that is replaced, until the new one stands
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

UNFINISHED = re.compile(r"\.(?P<name>.+?)(?P<old>\.old)?\.\d+")
# A disk without space, and a user's share of it.
FULL = (errno.ENOSPC, errno.EDQUOT)


def part_of(path: Path, *, old: bool = False) -> Path:
    """Where this process writes what will be `path`; with `old`, where it puts what was there."""
    # Beside its final place, so that the rename stays on one file system and is atomic. The process
    # number keeps two writers of one file apart.
    return path.with_name(f".{path.name}{'.old' * old}.{os.getpid()}")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`; a process that dies on the way leaves what was there before."""
    part = part_of(path)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """How JSON lies on the disk."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_new(path: Path, parts: Iterable[bytes | memoryview]) -> str:
    """Write a file into a folder that has no name yet, and flush it; return its SHA-256."""
    content = hashlib.sha256()
    with path.open("wb") as file:
        for part in parts:
            # Hashed on its way to the disk: what is read back must be what was meant.
            content.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return content.hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder: a rename is on the disk only once the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_folder(part: Path, folder: Path) -> None:
    """Give `part` the name `folder`; what had that name goes only when the new one stands."""
    old = part_of(folder, old=True)
    sync_folder(part)
    if folder.exists():
        folder.replace(old)
    part.replace(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_unfinished(folder: Path, *, prefix: str = "") -> None:
    """Remove what killed writers left in `folder` of names with this prefix; nobody else writes."""
    for path in sorted(folder.glob(f".{prefix}*")):
        match = UNFINISHED.fullmatch(path.name)
        if match is None:
            continue
        if match["old"] and not (folder / match["name"]).exists():
            # Killed between two renames: the old one is whole.
            path.replace(folder / match["name"])
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def check_space(folder: Path, needed: int, *, what: str) -> None:
    """Raise OSError (ENOSPC) where the disk of `folder` has less than `needed` bytes free."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        room = f"{what} of {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, room, str(folder))


def no_room(error: OSError, *, place: Path | None = None) -> str:
    """The line for a full disk. `place`: where the file was, if the error does not say."""
    # Writing to a file that is open names none.
    where = error.filename or place
    return f"no room on the disk{f' for {where}' if where else ''}: {error.strerror}"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
