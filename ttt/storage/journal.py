"""metrics.jsonl: every measured number, a line each, on its way to the disk before anything is shown."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from ttt.results.events import Evaluated, Event, as_record


class Journal:
    """Appends to `path`. Opened at `position`, it forgets what a stopped run wrote behind that."""

    def __init__(self, path: Path, *, position: int = 0) -> None:
        self._file = path.open("ab")
        self._file.truncate(min(position, path.stat().st_size))

    def __call__(self, event: Event) -> None:
        self._file.write((json.dumps(plain(as_record(event)), ensure_ascii=False) + "\n").encode())
        self._file.flush()
        if isinstance(event, Evaluated):
            os.fsync(self._file.fileno())

    @property
    def position(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()


def plain(content: Any) -> Any:
    """JSON has no NaN: what was not measured is null."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
