"""Who owns a run folder: a file that its owner holds locked for as long as it lives.

    {"host": "node7", "pid": 4711, "time": "2026-11-30T12:00:00+0000"}

The kernel gives the lock of a dead process back, whatever killed it and whoever has its number now.
A file system that several hosts share may keep locks of one host from the others, so an owner also
touches the file (its heartbeat), and one on another host counts until it has been silent for a
while.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:
    # Windows: the heartbeat alone decides.
    fcntl = None  # type: ignore[assignment]

# Seconds between heartbeats, and until an owner on another host counts as dead.
HEARTBEAT, SILENT = 20.0, 120.0
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class BusyError(ValueError):
    """Another live process owns the folder."""


class Lock:
    """The lock file at `path`. It is there while somebody owns the folder, or died with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self._released = threading.Event()

    def take(self) -> None:
        """Own the folder until `release`. Raises BusyError naming the owner."""
        handle = self._locked_file()
        if handle is None or self._is_elsewhere():
            owner = self.taken_by()
            if handle is not None:
                os.close(handle)
            raise BusyError(owner)
        content = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(content).encode(), 0)
        self._handle, self._released = handle, threading.Event()
        threading.Thread(target=self._beat, args=(handle, self._released), daemon=True).start()

    def release(self) -> None:
        """Give the folder up; nothing happens where it is not ours."""
        if self._handle is None:
            return
        self._released.set()
        # Removed while it is still locked: who waits for this file then sees that it is gone.
        self.path.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = None

    def is_taken(self) -> bool:
        """Does a process own the folder now, as far as one can see from here?"""
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return not _lock(handle) or self._is_elsewhere()
        finally:
            os.close(handle)

    def taken_by(self) -> str:
        """Who owns the folder, and what to do if that is wrong."""
        owner = self._owner()
        return (
            f"{self.path.parent} belongs to a run on {owner.get('host')}, pid {owner.get('pid')}; "
            f"if that is dead, delete {self.path}"
        )

    def _locked_file(self) -> int | None:
        """The open lock file, locked; None where another process holds it."""
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            if not _lock(handle):
                os.close(handle)
                return None
            # Its owner may have removed it between our open and our lock: then we hold a file that
            # nobody else can see.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), self.path.stat(follow_symlinks=False)):
                    return handle
            os.close(handle)

    def _is_elsewhere(self) -> bool:
        """Does an owner on another host still give signs of life?"""
        host = self._owner().get("host")
        if host in (None, socket.gethostname()) and fcntl is not None:
            return False
        with contextlib.suppress(OSError):
            return host is not None and time.time() - self.path.stat().st_mtime < SILENT
        return False

    def _owner(self) -> dict[str, Any]:
        """What the file says; empty where it is damaged, or was just made."""
        try:
            content = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _beat(self, handle: int, released: threading.Event) -> None:
        while not released.wait(HEARTBEAT):
            # The folder may be gone, or its disk unreachable for a while.
            with contextlib.suppress(OSError):
                os.utime(handle)


def _lock(handle: int) -> bool:
    """Lock an open file for this process; False where another one has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Without locks the heartbeat alone decides.
        return error.errno in NO_LOCKS
    return True


def alive(pid: int) -> bool:
    """Does a process of this number run on this host?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
