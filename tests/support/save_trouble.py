"""What can happen to several gloo processes that save together."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

from sharing import engine_for
from torch.distributed.checkpoint.filesystem import FileSystem

from ttt.storage import checkpoint
from ttt.storage.checkpoint import Checkpoint, save_together

NAME = "task-0000"


def die_in_save(config: dict[str, Any], folder: Path) -> None:
    """Save once; be killed in the second save, when all shares are on the disk."""
    _, engine = engine_for(config)
    groups = {"slow": dict(engine.learner.model.named_parameters())}
    save_together(engine.fabric, folder / NAME, Checkpoint(groups, {"number": 0}), sharded=True)
    with mock.patch.object(checkpoint, "write_new", _die):
        save_together(engine.fabric, folder / "task-0001", Checkpoint(groups, {"number": 1}), sharded=True)


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk(config: dict[str, Any], folder: Path) -> int:
    """Save where the disk of the second process is full; return the error that this one raises."""
    _, engine = engine_for(config)

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    create = FileSystem.create_stream if engine.fabric.is_global_zero else full
    groups = {"slow": dict(engine.learner.model.named_parameters())}
    with mock.patch.object(FileSystem, "create_stream", create):
        try:
            save_together(engine.fabric, folder / NAME, Checkpoint(groups, {}), sharded=True)
        except OSError as error:
            return error.errno
    return 0
