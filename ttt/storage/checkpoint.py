"""Checkpoints without pickle: a folder of safetensors and one JSON file, with a manifest of hashes.

    checkpoints/task-0003/   slow.safetensors  fast.safetensors  ...  state.json  manifest.json
    checkpoints/task-0003-step-00000120/   the same, after 120 steps of the next task
    checkpoints/task-0004/   shard-00001-...  shard-00002-...  state.json  manifest.json

The last one is sharded: each process wrote its own file, and state.json names the groups.

A checkpoint appears under its name only when it is complete; one with a wrong hash is never loaded.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ttt.devices.collective import decided
from ttt.devices.one_device import Devices
from ttt.devices.shards import whole_tensors
from ttt.storage.files import json_bytes, part_of, replace_folder, sha256, write_new
from ttt.storage.history import read_history
from ttt.storage.shares import Shares, share_of
from ttt.storage.tensors import file_parts

Tensors = dict[str, Tensor]
NAME = re.compile(r"task-(\d+)(?:-step-(\d+))?")
MANIFEST, STATE = "manifest.json", "state.json"
# Where the state of a sharded checkpoint names the groups of its tensors.
GROUPS = "sharded"


def name_after(row: int, *, step: int = 0) -> str:
    """The name of the checkpoint after a row of R and `step` steps of the next task."""
    return f"task-{row:04d}" + (f"-step-{step:08d}" if step else "")


def in_order(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    # By number: as text, task-10000 comes before task-9999.
    names = {path: NAME.fullmatch(path.name) for path in folder.glob("task-*")}
    places = {path: (int(match[1]), int(match[2] or 0)) for path, match in names.items() if match}
    return sorted(places, key=places.__getitem__)


class Checkpoint(NamedTuple):
    """Tensors by group (slow, fast, optimizer, ...), and everything else as plain JSON."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder`, replacing nothing until the new one is complete on the disk."""
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write(part, checkpoint)
        replace_folder(part, folder)
    except BaseException:
        # On a full disk, what comes next needs this space.
        shutil.rmtree(part, ignore_errors=True)
        raise


def save_together(fabric: Devices, folder: Path, checkpoint: Checkpoint, *, sharded: bool) -> None:
    """Save tensors that may be cut over devices. All processes call this.

    Whole, they are put together in the first process, which writes; sharded, each writes its own
    shares. The state is that of the first process.
    """
    if sharded:
        _save_shares(fabric, folder, checkpoint)
        return
    keep = fabric.is_global_zero
    tensors = {group: whole_tensors(content, keep=keep) for group, content in checkpoint.tensors.items()}
    if keep:
        save(folder, Checkpoint(tensors, checkpoint.state))


def _save_shares(fabric: Devices, folder: Path, checkpoint: Checkpoint) -> None:
    # Imported here: DCP takes as long as torch itself, and one device does not need it.
    from ttt.storage.shards import write_shares

    def begin() -> Path:
        part = part_of(folder)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        return part

    part = decided(fabric, begin)
    try:
        manifest = write_shares(fabric, part, checkpoint.tensors)
        if fabric.is_global_zero:
            _write_rest(part, checkpoint.state | {GROUPS: list(checkpoint.tensors)}, manifest)
            replace_folder(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _write(part: Path, checkpoint: Checkpoint) -> None:
    files = {f"{group}.safetensors": tensors for group, tensors in checkpoint.tensors.items()}
    manifest = {name: write_new(part / name, file_parts(tensors)) for name, tensors in files.items()}
    _write_rest(part, checkpoint.state, manifest)


def _write_rest(part: Path, state: Mapping[str, Any], manifest: Mapping[str, str]) -> None:
    """Write the state, and the manifest: the hashes of the tensors' files and that of the state."""
    digest = write_new(part / STATE, [json_bytes(state)])
    write_new(part / MANIFEST, [json_bytes({**manifest, STATE: digest})])


def load(folder: Path, *, history: bool = True) -> Checkpoint:
    """Raises ValueError naming the file that is missing or changed.

    What the run measured comes from beside the folder, unless `history` is False.
    """
    manifest = _read_object(folder / MANIFEST)
    if STATE not in manifest:
        raise ValueError(f"{folder / MANIFEST}: names no {STATE}")
    for name, digest in manifest.items():
        # A name that leads out of the folder is none of ours.
        if Path(name).name != name or not (folder / name).is_file() or sha256(folder / name) != digest:
            raise ValueError(f"{folder / name}: missing or changed since it was saved")
    state = _read_object(folder / STATE)
    if history and "history" in state:
        state |= read_history(folder.parent, state["history"])
    if GROUPS in state:
        return Checkpoint(_read_shares(folder, manifest, groups=state.pop(GROUPS)), state)
    # Files that the manifest does not name are not part of it.
    files = [folder / name for name in manifest if name.endswith(".safetensors")]
    try:
        return Checkpoint(tensors={file.stem: load_file(file) for file in files}, state=state)
    except SafetensorError as error:
        raise ValueError(f"{folder}: not tensors ({error})") from error


def _read_shares(folder: Path, manifest: Mapping[str, str], *, groups: Sequence[str]) -> dict[str, Shares]:
    """The tensors of a sharded checkpoint, which are read when they are asked for."""
    from ttt.storage.shards import Reader

    # DCP reads whatever lies there.
    for file in folder.glob("*.safetensors"):
        if file.name not in manifest:
            raise ValueError(f"{file}: is not part of the checkpoint; remove it")
    reader = Reader(folder)
    return {group: Shares(reader, group) for group in groups}


def _read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises ValueError naming it."""
    if not file.is_file():
        raise ValueError(f"{file.parent}: no checkpoint (no {file.name})")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: no JSON object")
    return content


def load_newest(
    folder: Path, *, check: Callable[[Checkpoint], None] = lambda checkpoint: None
) -> tuple[Checkpoint | None, list[str]]:
    """The newest valid checkpoint in `folder`, and why newer ones were passed over.

    `check` raises ValueError for a whole one that is of no use.
    """
    complaints: list[str] = []
    for path in reversed(in_order(folder)):
        try:
            saved = load(path)
            check(saved)
        except ValueError as error:
            complaints.append(str(error) if str(path) in str(error) else f"{path}: {error}")
        else:
            return saved, complaints
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


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], order: Sequence[nn.Parameter]) -> None:
    """The inverse of `optimizer_tensors`.

    Learning rates and other options stay those of the config.
    """
    content = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # With FSDP2 groups hold the parameters in another order than the one that was saved.
    place = {id(parameter): index for index, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key in tensors:
        index, name = key.split(".", 1)
        parameter = order[int(index)]
        state.setdefault(place[id(parameter)], {})[name] = share_of(tensors, key, like=parameter)
    optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})


def rng_tensors() -> Tensors:
    """States of torch's global generators; our own, functions of (seed, task, step), have none."""
    states = {"cpu": torch.get_rng_state()}
    states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_rng(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda{i}"], i)
