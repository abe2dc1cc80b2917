"""metrics.jsonl: one line for each event, on the disk before anything is shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ttt.config.kinds import mismatch
from ttt.results.events import Evaluated, Event, as_record, fault_of
from ttt.results.rows import plain
from ttt.storage.files import write_bytes


class Journal:
    """Append events to `path`, cut first at `position`: a stopped run may have written more."""

    def __init__(self, path: Path, *, position: int = 0) -> None:
        self._file = path.open("ab")
        self._file.truncate(min(position, path.stat().st_size))
        self._is_settled = False

    def __call__(self, event: Event) -> None:
        self._file.write((json.dumps(plain(as_record(event)), ensure_ascii=False) + "\n").encode())
        self._file.flush()
        self._is_settled = False
        # A flush to the disk takes milliseconds: afford it once a row of R, not once a report.
        if isinstance(event, Evaluated):
            self.settled()

    def settled(self) -> int:
        """Bytes so far, all on the disk: a checkpoint counts on them."""
        if not self._is_settled:
            os.fsync(self._file.fileno())
            self._is_settled = True
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()


class Tail:
    """The records of a file that is being written; each is read once, as it comes.

    `kind`: the TypedDict that each of them is, or None for events.
    """

    def __init__(self, file: Path, *, kind: type | None = None) -> None:
        self._file, self._kind, self._position, self._lines = file, kind, 0, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the records that are new; none while there is no file.

        Raises ValueError naming the file and the line of what is no such record.
        """
        if not self._file.is_file():
            return
        with self._file.open("rb") as stream:
            stream.seek(self._position)
            for line in stream:
                # One without its end is still being written, or was cut short by a crash.
                if not line.endswith(b"\n"):
                    return
                self._position, self._lines = self._position + len(line), self._lines + 1
                yield _record(line, kind=self._kind, where=f"{self._file}: line {self._lines}")


def read(file: Path, *, kind: type | None = None) -> list[dict[str, Any]]:
    """Return the records of a file of lines in order, or an empty list if there is no such file.

    `kind` as in `Tail`. Raises ValueError naming the file and the line of what is none.
    """
    return list(Tail(file, kind=kind))


def _record(line: bytes, *, where: str, kind: type | None = None) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{where} holds no object")
    fault = mismatch(record, kind) if kind else fault_of(record)
    if fault:
        raise ValueError(f"{where} {fault}")
    return record


def mend(file: Path, *, position: int) -> tuple[int, str]:
    """Take damaged lines out of a journal up to `position`, where a checkpoint says that it ends.

    Return where it ends now, and what was wrong with it; empty for a whole one.
    """
    data = file.read_bytes()[:position] if file.is_file() else b""
    lines = data.splitlines(keepends=True)
    whole = [line for line in lines if _is_record(line)]
    lost = [f"{len(lines) - len(whole)} lines are damaged and left out"] * (len(whole) < len(lines))
    lost += ["its end is missing"] * (len(data) < position)
    if lost:
        write_bytes(file, b"".join(whole))
    return sum(map(len, whole)), f"{file}: {', and '.join(lost)}" if lost else ""


def whole_records(file: Path, *, kind: type) -> list[dict[str, Any]]:
    """What `read` returns, without the lines that are damaged."""
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line) for line in lines if _is_record(line, kind=kind)]


def _is_record(line: bytes, *, kind: type | None = None) -> bool:
    try:
        _record(line, where="", kind=kind)
    except ValueError:
        return False
    return line.endswith(b"\n")


# The end of a journal that surely holds its last line, but for streams of thousands of tasks.
TAIL = 1 << 16


def last_record(file: Path) -> dict[str, Any] | None:
    """The newest whole record of a journal, read from its tail only; None where that has none."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - TAIL, 0))
        # The last line may be half written, the first one cut.
        lines = stream.read().split(b"\n")[:-1]
    try:
        return _record(lines[-1], where="") if lines else None
    except ValueError:
        return None
