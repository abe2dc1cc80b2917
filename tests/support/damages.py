"""What can happen to a small file of a run folder: a killed writer, a full disk, a careless hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) * 2 // 3],
    "list": lambda data: b"[]\n",
    "number": lambda data: b"3\n",
    "text": lambda data: b'"text"\n',
    "null": lambda data: b"null\n",
    "object": lambda data: b"{}\n",
    "wrong kinds": lambda data: b'{"status": 3, "host": [], "pid": "x", "data": 1, "rows": "x", "code": []}\n',
    "no UTF-8": lambda data: b"\xff\xfe" + data,
    "zeros": lambda data: bytes(len(data)),
    "hole": lambda data: data[: len(data) // 3] + bytes(max(len(data) // 4, 1)) + data[len(data) // 2 :],
}
FILES = (
    "status.json",
    "results.json",
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "samples.json",
    "lock",
    "checkpoints/history.jsonl",
)


def damage(file: Path, kind: str) -> None:
    """Damage `file` in one of the ways of DAMAGES; a file that is not there gets that content."""
    data = file.read_bytes() if file.is_file() else b'{"host": "elsewhere", "pid": 1}'
    file.write_bytes(DAMAGES[kind](data))
