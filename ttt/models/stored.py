"""The weights of a published model as they lie on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ttt.models.hf import HfModel
from ttt.models.pretrained import Pretrained


def stored_weights(model: HfModel) -> StoredWeights | None:
    """Return the weights of a model as published; None where its files hold other tensors."""
    weights = StoredWeights(model.which, prefix="lm.", dtype=getattr(torch, model.dtype))
    return weights if model.published.keys() <= weights.keys() else None


class StoredWeights(Mapping[str, Tensor]):
    """The weights in a folder, which are read one by one when they are asked for.

    `prefix` stands before their names. Of a model on the hub there are none.
    """

    def __init__(self, which: Pretrained, *, prefix: str, dtype: torch.dtype) -> None:
        self._prefix, self._dtype = prefix, dtype
        self._files: dict[str, Path] = {}
        folder = Path(which.place())
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                self._files |= {prefix + name: file for name in tensors.keys()}  # noqa: SIM118

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._files[name], framework="pt") as tensors:
            tensor: Tensor = tensors.get_tensor(name.removeprefix(self._prefix))
        return tensor.to(self._dtype)
