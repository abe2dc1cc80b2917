"""Which files a piece of work reads, so that one can see later whether any of them has changed.

Python reports every `open` and every listing of a folder to an audit hook, whoever asked for it: a
source cannot forget to say what it read. Files that a C library opens by itself are not seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

# Size and time of a file, or of a folder, which changes with what lies in it; None: not there.
Stamp = list[int] | None
LISTINGS = ("os.listdir", "os.scandir")
NETWORK = ("socket.connect", "socket.getaddrinfo")
# What the system says of itself is no file that somebody edits.
SYSTEM = ("/proc/", "/sys/", "/dev/")
# An installed package changes as a whole, with its files.
INSTALLED = f"{os.sep}site-packages"
WRITES = os.O_WRONLY | os.O_RDWR


class Reads:
    """The files and folders read so far, each as it was just before it was opened.

    `cache`: a folder whose content follows from the rest: what lies in a folder of a folder there
    counts as one, `cached`, without a stamp. `asked_network`: something came from elsewhere.
    """

    def __init__(self, *, cache: Path) -> None:
        self.stamps: dict[str, Stamp] = {}
        self.cached: set[str] = set()
        self.asked_network = False
        self._cache = os.path.join(cache, "")

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what an event of `sys.audit` says."""
        if event in NETWORK:
            self.asked_network = True
        elif event in LISTINGS or (event == "open" and not arguments[2] & WRITES):
            # A number is a file that is open already; Python lists the current folder as None.
            path = "." if arguments[0] is None else arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                self._add(os.path.abspath(os.fsdecode(path)), is_folder=event in LISTINGS)

    def _add(self, path: str, *, is_folder: bool) -> None:
        # Imports list folders and read compiled files and metadata of packages.
        is_import = path.endswith(".pyc") or ".dist-info" in path or (is_folder and INSTALLED in path)
        if os.path.join(path, "").startswith(self._cache):
            self.cached.add("/".join(path[len(self._cache) :].split(os.sep)[:2]))
        elif not is_import and path not in self.stamps and not path.startswith(SYSTEM):
            self.stamps[path] = stamp(path)


_listening: list[Reads] = []


@contextmanager
def watched_reads(*, cache: Path) -> Iterator[Reads]:
    """Note what this process reads while open."""
    _install()
    reads = Reads(cache=cache)
    _listening.append(reads)
    try:
        yield reads
    finally:
        _listening.remove(reads)


def stamp(path: str) -> Stamp:
    """The size and time of a file or folder."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns, facts.st_ino]


@cache
def _install() -> None:
    # Python has no way to take a hook out again: it stays, and hears nothing while nobody listens.
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for reads in _listening:
        reads.hear(event, arguments)
