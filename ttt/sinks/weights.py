"""Which weights of a run a tracker may keep, and where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from ttt.sinks.base import RunInfo
from ttt.storage.checkpoint import in_order
from ttt.storage.run_folder import RunFolder

WhichWeights = Literal["base", "final"]


def folder_of(run: RunInfo, which: WhichWeights) -> Path | None:
    """The folder of these weights: the base in the cache, or the run's newest checkpoint.

    None where there is none, as with a base that was not trained by ttt.
    """
    folder = RunFolder(run.folder)
    if which == "final":
        return next(reversed(in_order(folder.checkpoints)), None)
    base = json.loads(folder.environment.read_text(encoding="utf-8"))["base"].get("id")
    cached = Path(run.config["cache_dir"]).expanduser() / "base" / str(base)
    return cached if base and cached.is_dir() else None
