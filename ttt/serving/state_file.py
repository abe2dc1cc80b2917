"""A reader's state in one file: safetensors, whose header has a manifest as JSON; no pickle.

    {"format": "1", "reader": {"model": "nano", "adapter": "mlp_fast", "weights": "5f0c...", ...},
     "settings": {"block": 256, ...}, "session": {"last": 101, "place": {"start": 8192, ...}, ...}}

`sha256` beside it is taken over the manifest and all tensors, so that a changed bit is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ttt.storage.files import write_bytes

FORMAT = "1"


@dataclass(frozen=True)
class Owner:
    """Whose state it is: only the same slow weights under the same adapter can go on with it.

    `run`: the folder, or the words, that name it to a person.
    """

    run: str
    model: str
    adapter: str
    adapter_settings: Mapping[str, Any]
    weights: str

    def named(self) -> str:
        return f"{self.run} (model={self.model} adapter={self.adapter})"


class Saved(NamedTuple):
    """What a file holds beside the owner: tensors, the reader's settings, and one session."""

    tensors: dict[str, Tensor]
    settings: Mapping[str, Any]
    session: dict[str, Any]


def write_state(path: Path, saved: Saved, *, owner: Owner) -> None:
    """Write a file that is whole whenever it exists."""
    tensors = {name: x.detach().cpu().contiguous() for name, x in saved.tensors.items()}
    manifest = {"format": FORMAT, "reader": asdict(owner), "settings": saved.settings, "session": saved.session}
    text = json.dumps(manifest)
    write_bytes(path, save(tensors, metadata={"manifest": text, "sha256": digest_of(text, tensors)}))


def read_state(path: Path, *, owner: Owner) -> Saved:
    """What `write_state` wrote.

    Raises ValueError for a damaged file, and for that of another owner.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ValueError(f"{path}: no state of a reader, or damaged ({error})") from error
    if "manifest" not in header:
        raise ValueError(f"{path}: no state of a reader (its header has no manifest)")
    if header.get("sha256") != digest_of(header["manifest"], tensors):
        raise ValueError(f"{path}: damaged: what it holds is not what was saved")
    # Its checksum is right: from here on it is what some release of ours wrote.
    manifest = json.loads(header["manifest"])
    if manifest["format"] != FORMAT:
        raise ValueError(f"{path}: written by another release (format {manifest['format']}, here {FORMAT})")
    check_owner(Owner(**manifest["reader"]), owner, path=path)
    return Saved(tensors, manifest["settings"], manifest["session"])


def check_owner(saved: Owner, owner: Owner, *, path: Path) -> None:
    """Raise ValueError, naming both, where the state is that of another model or adapter."""
    # From the outside in, so that the refusal names what a person would see first.
    if saved.model != owner.model or saved.adapter != owner.adapter:
        raise ValueError(f"{path}: the state of {saved.named()}, not of {owner.named()}")
    for key in sorted({*saved.adapter_settings, *owner.adapter_settings}):
        there, here = (x.adapter_settings.get(key) for x in (saved, owner))
        if there != here:
            words = f"adapter.{key}={json.dumps(there)}, not of {owner.run} with adapter.{key}={json.dumps(here)}"
            raise ValueError(f"{path}: the state of {saved.run} with {words}")
    if saved.weights != owner.weights:
        hashes = f"weights {saved.weights[:8]}, not of {owner.run} with weights {owner.weights[:8]}"
        raise ValueError(f"{path}: the state of {saved.run} with {hashes}")


def digest_of(manifest: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the manifest, and names, types, shapes and bytes of the tensors."""
    # The manifest too: a changed place would read the wrong text without a word.
    digest = hashlib.sha256(manifest.encode())
    for name, x in sorted(tensors.items()):
        digest.update(f"{name} {x.dtype} {list(x.shape)}\n".encode())
        digest.update(x.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
