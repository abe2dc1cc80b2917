"""Which code numbers come from: hashes of modules. A base is named by one; a run only records one, and says when the
code is another by now, for most changes of code change no number."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CORE = Path(__file__).parent
TRAINS = ("device", "engine", "learner", "ranks", "shards", "stream", "train")
MEASURES = ("evaluate", "layout", "loop", "prompt_vectors", "rollouts", "solve")


def code_hash() -> str:
    """SHA-256 over the modules that take part in training a base. What tasks give is in their fingerprints."""
    return _digest(_files("adapters", "bases", "models", "optimizers", modules=TRAINS))


def run_code_hash(config: Mapping[str, Any], *, trusted: Iterable[Path]) -> str:
    """Over all modules that take part in a run: also those below `trusted`, the user's, that were imported, and the
    one with the function of adapter.propose."""
    files = _files("adapters", "bases", "models", "optimizers", modules=TRAINS)
    files += _files("metrics", "objectives", "prompts", "strategies", modules=MEASURES)
    folders = [Path(folder).resolve() for folder in trusted]
    proposes = str(config["adapter"].get("propose")).partition(":")[0]
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/")
        if name == proposes or any(folder in file.resolve().parents for folder in folders):
            files.append(file)
    return _digest(path for path in files if path.is_file())


def _files(*folders: str, modules: Iterable[str]) -> list[Path]:
    import ttt.kernels

    places = [CORE / name for name in folders] + [Path(ttt.kernels.__path__[0])]
    return [CORE / f"{name}.py" for name in modules] + [path for place in places for path in sorted(place.glob("*.py"))]


def _digest(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for path in files:
        content.update(path.read_bytes())
    return content.hexdigest()
