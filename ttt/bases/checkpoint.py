"""`base=checkpoint`: slow weights saved by an earlier run.

base.path=outputs/split-sequence/mlp_fast-naive-adamw/seed0-1a2b3c4d    a run: its newest checkpoint
base.path=weights.safetensors                                           a file

Low-rank updates of the run (strategy=lora_task) become part of the matrices beside which they were
learned. What a pretrained model was published with is not in the checkpoints of a run that left it
frozen: it comes with the model, which must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from ttt.bases.base import BaseSetting, SlowWeights
from ttt.bases.merging import has_updates, merged, scale_of_updates
from ttt.storage.checkpoint import load, load_newest
from ttt.storage.read import read_config
from ttt.storage.run_folder import RunFolder

# What tells published models apart.
PUBLISHED = ("name", "revision")


class CheckpointBase:
    """Reads the weights when built: a missing file is noticed before anything else is made."""

    needs_data = False

    def __init__(self, *, name: str, seed: int, path: str | None) -> None:
        if path is None:
            raise ValueError("base=checkpoint needs base.path=RUN_FOLDER or base.path=FILE.safetensors")
        self.name, self.seed = name, seed
        self.record: dict[str, float | str] = {}
        self._typed = f"base.path={path}"
        self._weights, self._config = _read(Path(path).expanduser(), typed=self._typed)
        if has_updates(self._weights) and self._config is None:
            raise ValueError(f"{self._typed}: holds low-rank updates; name the folder of their run, which scales them")

    def weights(self, setting: BaseSetting) -> SlowWeights | None:
        self._check_model(setting.model)
        if self._config is None or not has_updates(self._weights):
            return self._weights
        try:
            return merged(self._weights, initial=setting.initial, scale=scale_of_updates(self._config))
        except ValueError as error:
            raise ValueError(f"{self._typed}: {error}") from error

    def _check_model(self, model: Mapping[str, Any]) -> None:
        """Raise ValueError where the run's model was published with other weights than this one."""
        # Other models bring no weights; their sizes are compared with those saved.
        if self._config is None or "revision" not in model:
            return
        for key in PUBLISHED:
            there = self._config["model"].get(key)
            if there != model[key]:
                raise ValueError(f"{self._typed}: was trained from model.{key}={there}; take the model of that run")


def _read(path: Path, *, typed: str) -> tuple[SlowWeights, dict[str, Any] | None]:
    """Return slow weights and the config of their run; None for a file."""
    if not path.exists():
        raise ValueError(f"{typed}: no such file or folder")
    if path.is_file():
        try:
            return load_file(path), None
        except SafetensorError as error:
            raise ValueError(f"{typed}: not a safetensors file ({error})") from error
    if (path / "manifest.json").is_file():
        # RUN/checkpoints/task-0003, a copy of one, or a base in the cache, which is no run's.
        run = path.absolute().parents[1]
        return load(path, history=False).tensors["slow"], read_config(run) if RunFolder(run).config.is_file() else None
    newest, complaints = load_newest(RunFolder(path).checkpoints)
    if newest is None:
        why = complaints[0] if complaints else "it has no checkpoints/task-*"
        raise ValueError(f"{typed}: holds no usable checkpoint: {why}")
    return newest.tensors["slow"], read_config(path) if RunFolder(path).config.is_file() else None
