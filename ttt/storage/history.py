"""What a run measured, beside its checkpoints: a line for each row of R and each point, once.

    checkpoints/history.jsonl    {"row": {"columns": [0, 1], "scores": {...}, ...}}
                                 {"point": {"step": 40, "columns": [0], "scores": {...}}}

A checkpoint says with how many bytes of it, and with which hash, it goes: so a save writes what is
new, whatever was measured before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttt.results.rows import Point, Row, compact, plain

NAME = "history.jsonl"


class History:
    """The file in a folder of checkpoints, as far as this process knows what is in it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._rows = self._points = self._size = 0
        self._digest = hashlib.sha256()

    def extend(self, rows: Sequence[Row], points: Sequence[Point]) -> dict[str, Any]:
        """Append what is new; return what `read_history` needs to know."""
        new = [{"row": row} for row in rows[self._rows :]] + [{"point": point} for point in points[self._points :]]
        self._write("".join(json.dumps(plain(line), ensure_ascii=False) + "\n" for line in new).encode())
        self._rows, self._points = len(rows), len(points)
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def _write(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            file.seek(self._size)
            there = file.read(len(data))
            # A run that goes on finds its lines there: older checkpoints need them all the time.
            same = _shared(there, data)
            file.truncate(self._size + same)
            file.write(data[same:])
            file.flush()
            os.fsync(file.fileno())
        self._size += len(data)
        self._digest.update(data)


def _shared(old: bytes, new: bytes) -> int:
    """How many bytes of whole lines both begin with."""
    size = 0
    for line in new.splitlines(keepends=True):
        if not old.startswith(line, size):
            break
        size += len(line)
    return size


def read_history(folder: Path, mark: dict[str, Any]) -> dict[str, Any]:
    """Return `rows` and `points` (compact) as JSON. Raises ValueError for a changed file."""
    file = folder / NAME
    data = file.read_bytes()[: mark["bytes"]] if file.is_file() else b""
    if hashlib.sha256(data).hexdigest() != mark["sha256"]:
        raise ValueError(f"{file}: missing or changed since it was saved")
    lines = [json.loads(line) for line in data.splitlines()]
    points: list[Any] = [line["point"] for line in lines if "point" in line]
    return {"rows": [line["row"] for line in lines if "row" in line], "points": compact(points)}
