"""Checkpoints of a base in training, beside where it will lie in the cache; gone once it is done.

cache/base/HASH.unfinished/task-0000-step-00000120/
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt.devices.collective import decided
from ttt.learner import Engine
from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint, Tensors
from ttt.storage.files import remove_unfinished
from ttt.training.engine_state import engine_tensors, placed_like, restore_engine

GROUPS = ("slow", "fast", "optimizer", "rng", "mean")


@dataclass(frozen=True)
class Unfinished:
    """The newest checkpoint of a base in training; whoever holds the lock of the base reads it."""

    folder: Path
    engine: Engine

    @classmethod
    def of(cls, base: Path, engine: Engine) -> Unfinished:
        """Those of the base that will lie in `base`."""
        return cls(base.with_name(f"{base.name}.unfinished"), engine)

    def save(self, step: int, state: dict[str, Any], mean: Tensors, *, sharded: bool) -> None:
        """Write the training as it stands after `step` steps; `mean`: what `Until.state` says."""
        engine = self.engine
        slow: Tensors = dict(engine.learner.model.named_parameters())
        groups: dict[str, Tensors] = {"slow": slow, **engine_tensors(engine), "mean": mean}
        place = self.folder / checkpoint.name_after(0, step=step)
        checkpoint.save_together(engine.fabric, place, Checkpoint(groups, {"step": step} | state), sharded=sharded)
        if engine.fabric.is_global_zero:
            # One checkpoint is enough: if it is damaged, the base is trained from its beginning.
            for old in checkpoint.in_order(self.folder)[:-1]:
                shutil.rmtree(old, ignore_errors=True)

    def restore(self) -> Checkpoint | None:
        """Bring the engine to where the newest checkpoint was made; None without one."""
        saved = self._newest()
        if saved is None:
            return None
        engine = self.engine
        engine.learner.model.load_state_dict(placed_like(engine, saved.tensors["slow"]), strict=False)
        restore_engine(engine, saved.tensors)
        return saved

    def _newest(self) -> Checkpoint | None:
        def find() -> str | None:
            remove_unfinished(self.folder)
            newest, _ = checkpoint.load_newest(self.folder, check=_check)
            return checkpoint.name_after(0, step=newest.state["step"]) if newest else None

        name = decided(self.engine.fabric, find)
        return checkpoint.load(self.folder / name) if name else None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _check(saved: Checkpoint) -> None:
    """Raise ValueError for a checkpoint from which no training can go on."""
    if not set(GROUPS) <= saved.tensors.keys() or not isinstance(saved.state.get("step"), int):
        raise ValueError("holds no training of a base")
