"""`base=checkpoint`: slow weights saved by an earlier run.

base.path=outputs/split-sequence/mlp_fast-naive-adamw/seed0-1a2b3c4d    a run: its newest checkpoint
base.path=weights.safetensors                                           a file
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from ttt.bases.base import BaseSetting, SlowWeights
from ttt.storage.checkpoint import load, load_newest
from ttt.storage.run_folder import RunFolder


class CheckpointBase:
    """Reads the weights when built: a missing file is noticed before anything else is made."""

    needs_data = False

    def __init__(self, *, name: str, seed: int, path: str | None) -> None:
        if path is None:
            raise ValueError("base=checkpoint needs base.path=RUN_FOLDER or base.path=FILE.safetensors")
        self.name, self.seed = name, seed
        self._weights = _read(Path(path).expanduser(), typed=path)

    def weights(self, setting: BaseSetting) -> SlowWeights | None:
        return self._weights


def _read(path: Path, *, typed: str) -> SlowWeights:
    if not path.exists():
        raise ValueError(f"base.path={typed}: no such file or folder")
    if path.is_file():
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"base.path={typed}: not a safetensors file ({error})") from error
    if (path / "manifest.json").is_file():
        return load(path).tensors["slow"]
    newest, complaints = load_newest(RunFolder(path).checkpoints)
    if newest is None:
        why = complaints[0] if complaints else "it has no checkpoints/task-*"
        raise ValueError(f"base.path={typed}: holds no usable checkpoint: {why}")
    return newest.tensors["slow"]
