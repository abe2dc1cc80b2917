"""Which code made the numbers: hashes over whole rooms.

A base is named by such a hash. A run only records one, and says when the code has changed since,
because most changes of code change no number.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Rooms whose code takes part in training a base; and, beside these, in a run.
TRAINS = ("adapters", "bases", "devices", "learner", "models", "objectives", "optimizers", "stream", "training")
MEASURES = ("evaluation", "metrics", "prompts", "results", "run", "strategies")


def code_hash() -> str:
    """SHA-256 over the rooms that take part in training a base.

    What tasks give is in their fingerprints.
    """
    return _digest(_files(TRAINS))


def run_code_hash(config: Mapping[str, Any], *, trusted: Iterable[Path]) -> str:
    """Over all rooms that take part in a run: also the modules below `trusted`, the user's, that
    were imported, and the one with the function of adapter.propose."""
    files = _files((*TRAINS, *MEASURES))
    folders = [Path(folder).resolve() for folder in trusted]
    proposes = str(config["adapter"].get("propose")).partition(":")[0]
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/")
        if name == proposes or any(folder in file.resolve().parents for folder in folders):
            files.append(file)
    return _digest(path for path in files if path.is_file())


def _files(rooms: Iterable[str]) -> list[Path]:
    import ttt.kernels as kernels

    core = Path(__file__).parents[1]
    places = [core / room for room in rooms] + [Path(kernels.__path__[0])]
    return [path for place in places for path in sorted(place.rglob("*.py"))]


def _digest(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for path in files:
        content.update(path.read_bytes())
    return content.hexdigest()
