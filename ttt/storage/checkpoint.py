"""Checkpoints without pickle: a folder of safetensors and one JSON file, with a manifest of hashes.

    checkpoints/task-0003/   slow.safetensors  fast.safetensors  ...  state.json  manifest.json

A checkpoint appears under its name only when it is complete; one with a wrong hash is never loaded.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ttt.devices.shards import placed
from ttt.storage.files import sha256, sync_folder, write_json

Tensors = dict[str, Tensor]
PREFIX = "task-"


def name_after(row: int) -> str:
    """The folder's name of the checkpoint made after a row of R."""
    return f"{PREFIX}{row:04d}"


def in_order(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    # By number: as text, task-10000 comes before task-9999.
    rows = {path: path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*")}
    return sorted((path for path, row in rows.items() if row.isdigit()), key=lambda path: int(rows[path]))


class Checkpoint(NamedTuple):
    """Tensors by group (slow, fast, optimizer, ...), and everything else as plain JSON."""

    tensors: dict[str, Tensors]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder`, replacing nothing until the new one is complete on the disk."""
    # Beside its final place, so that the rename stays on one file system and is atomic.
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for group, tensors in checkpoint.tensors.items():
        path = part / f"{group}.safetensors"
        save_file({name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    write_json(part / "state.json", checkpoint.state)
    files = sorted(path for path in part.iterdir())
    write_json(part / "manifest.json", {path.name: sha256(path) for path in files})
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    sync_folder(folder.parent)


def load(folder: Path) -> Checkpoint:
    """Raises ValueError naming the file that is missing or changed."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise ValueError(f"{folder}: no checkpoint (no manifest.json)")
    for name, digest in json.loads(manifest.read_text()).items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise ValueError(f"{folder / name}: missing or changed since it was saved")
    groups = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
    return Checkpoint(tensors=groups, state=json.loads((folder / "state.json").read_text()))


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest valid checkpoint in `folder`, and why newer ones were passed over."""
    complaints: list[str] = []
    for path in reversed(in_order(folder)):
        try:
            return load(path), complaints
        except ValueError as error:
            complaints.append(str(error))
    return None, complaints


def optimizer_tensors(optimizer: Optimizer, order: Sequence[nn.Parameter]) -> Tensors:
    """An optimizer's moments and counters, named `index.name`; `index` is the place in `order`."""
    return {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, parameter in enumerate(order)
        if parameter in optimizer.state
        for name, value in optimizer.state[parameter].items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, tensors: Tensors, order: Sequence[nn.Parameter]) -> None:
    """The inverse of `optimizer_tensors`.

    Learning rates and other options stay those of the config.
    """
    content = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # With FSDP2 groups hold the parameters in another order than the one that was saved.
    place = {id(parameter): index for index, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        parameter = order[int(index)]
        state.setdefault(place[id(parameter)], {})[name] = placed(tensor, like=parameter)
    optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})


def rng_tensors() -> Tensors:
    """States of torch's global generators; our own, functions of (seed, task, step), have none."""
    states = {"cpu": torch.get_rng_state()}
    states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_rng(tensors: Tensors) -> None:
    torch.set_rng_state(tensors["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda{i}"], i)
