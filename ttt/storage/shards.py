"""The shares of several processes in one folder, each in a file of its own.

    shard-00001-model-00001-of-00001.safetensors    what the first process holds of each tensor
    shard-00002-model-00001-of-00001.safetensors

torch.distributed.checkpoint (DCP) writes them, and reads them on any number of processes. It does
so as safetensors, with the place of each share in the header: its other format is pickle. A tensor
goes by the name `group/name`; one that is not cut comes from the first process.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ttt.devices.one_device import Devices
from ttt.devices.shards import is_cut
from ttt.storage.files import sha256


def write_shares(fabric: Devices, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    """Write what each process holds; return name of file -> SHA-256. All processes call this.

    Raises OSError on all of them where the disk of one is full.
    """
    state = {
        f"{group}/{name}": tensor.detach()
        for group, content in tensors.items()
        for name, tensor in content.items()
        if is_cut(tensor) or fabric.is_global_zero
    }
    try:
        save(state, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as failed:
        for error, _ in failed.failures.values():
            if isinstance(error, OSError):
                raise error from failed
        raise RuntimeError(str(failed)) from failed
    # Each process hashes what it wrote, which its host still has in memory.
    written = {file.name: sha256(file) for file in folder.glob(f"shard-{fabric.global_rank + 1:05d}-*")}
    digests: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(digests, written)
    return {name: digest for part in digests for name, digest in part.items()}


class Reader(HuggingFaceStorageReader):
    """The tensors in a folder of shares. Raises ValueError for what `write_shares` did not write.

    It reads the headers of the files once, not before every tensor.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = folder
        try:
            self._metadata: Metadata = super().read_metadata()
        except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{folder}: not tensors ({error})") from error
        for name in self.names():
            there = self._at(name)
            # The size is that of the last share: one that is missing leaves a hole.
            if sum(math.prod(chunk.sizes) for chunk in there.chunks) != math.prod(there.size):
                raise ValueError(f"{folder}: not all shares of {name} are there")

    def names(self) -> list[str]:
        return list(self._metadata.state_dict_metadata)

    def like(self, name: str) -> Tensor:
        there = self._at(name)
        return torch.empty(there.size, dtype=there.properties.dtype, device="meta")

    def read(self, name: str, *, into: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # It says that each process reads by itself, which is what is wanted.
            warnings.simplefilter("ignore")
            try:
                load({name: into}, storage_reader=self, no_dist=True)
            except (CheckpointException, SafetensorError, OSError) as error:
                raise ValueError(f"{self._folder}: changed while it was read") from error
        return into

    def read_metadata(self) -> Metadata:
        return self._metadata

    def _at(self, name: str) -> TensorStorageMetadata:
        there = self._metadata.state_dict_metadata[name]
        assert isinstance(there, TensorStorageMetadata)
        return there
