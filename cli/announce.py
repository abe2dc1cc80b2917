"""A run of a sweep tells its sweep where it runs: a small file that the sweep names in the
environment.

    {"folder": "outputs/...", "before": false}    it runs, or ran, in this folder
    {"folder": "outputs/...", "before": true, "code": "3f0c..."}
                                                  it was done already; the hash of today's code
    {"folder": "outputs/...", "waits": "..."}         another process runs it; this one waits
    {"refused": "adapter.chunk=0: ..."}           the command was wrong

Everything else about the run is in its folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ttt.storage.files import write_json

VARIABLE = "TTT_ANNOUNCE"


def is_announced() -> bool:
    """Does a sweep want to know how this run goes?"""
    return VARIABLE in os.environ


def announce_folder(folder: Path, *, before: bool, code: str = "", waits: str = "") -> None:
    """Say where this process runs, if anybody wants to know; `waits`: for whom, if it waits."""
    more = {key: word for key, word in {"code": code, "waits": waits}.items() if word}
    _write({"folder": str(folder), "before": before} | more)


def announce_refusal(message: str) -> None:
    """Say why this process does not run."""
    _write({"refused": message})


def read_announcement(file: Path) -> dict[str, Any]:
    """What a run announced; empty for one that has not got so far."""
    if not file.is_file():
        return {}
    # The file is never half written: `write_json` swaps whole files.
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _write(content: dict[str, Any]) -> None:
    file = os.environ.get(VARIABLE)
    if file:
        write_json(Path(file), content)
