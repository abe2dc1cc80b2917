"""The tensors of a checkpoint that several processes wrote, each its shares.

They stay on the disk until somebody asks: a process reads what it needs of them, whole or in part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from ttt.devices.shards import is_cut, placed


class Stored(Protocol):
    """Tensors on a disk by name."""

    def names(self) -> list[str]: ...

    def like(self, name: str) -> Tensor:
        """Return a tensor of this size and type that takes no memory."""
        ...

    def read(self, name: str, *, into: Tensor) -> Tensor:
        """Fill a tensor, or the share of it that this process holds; return it."""
        ...


class Shares(Mapping[str, Tensor]):
    """A group of tensors by name; in `stored` a tensor is called `group/name`."""

    def __init__(self, stored: Stored, group: str) -> None:
        self._stored, self._prefix = stored, f"{group}/"
        self._names = [x.removeprefix(self._prefix) for x in stored.names() if x.startswith(self._prefix)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name, torch.empty_like(self._like(name), device="cpu"))

    def share(self, name: str, *, like: Tensor) -> Tensor:
        """This device's share, if `like` is cut and has the shape of the whole; else the whole."""
        there = self._like(name)
        if not is_cut(like) or there.shape != like.shape:
            return self[name]
        return self._read(name, torch.empty_like(like.detach(), dtype=there.dtype))

    def _like(self, name: str) -> Tensor:
        return self._stored.like(self._prefix + name)

    def _read(self, name: str, into: Tensor) -> Tensor:
        return self._stored.read(self._prefix + name, into=into)


def share_of(tensors: Mapping[str, Tensor], name: str, *, like: Tensor) -> Tensor:
    """This device's share of a tensor of a checkpoint, if `like` is cut and has its shape."""
    return tensors.share(name, like=like) if isinstance(tensors, Shares) else placed(tensors[name], like=like)
