"""Which processes share one run, and who started them: this command (by torchrun), torchrun itself,
or SLURM."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class World:
    """The devices on each of `nodes` hosts, with a process for each.

    `strategy` says how they share a batch; with one device it is `single`. `starter`: torchrun |
    SLURM; None where this process was not started as one of several.
    """

    strategy: str
    devices: int
    nodes: int
    starter: str | None

    @classmethod
    def of(cls, *, strategy: str, devices: int | str, nodes: int | str, device: torch.device) -> World:
        """What the settings mean here.

        Raises ValueError where they contradict each other or the starter.
        """
        starter, here, hosts = _started()
        if strategy == "single":
            _check_single(devices, nodes)
            return cls("single", 1, 1, None)
        if starter is None:
            if nodes not in ("auto", 1):
                raise ValueError(
                    f"trainer.nodes={nodes}: one command starts processes on its own host only; "
                    "for several hosts start it by torchrun or SLURM (docs/howto/devices.md)"
                )
            here, hosts = _count(devices, device=device), 1
        for argument, typed, started in (("devices", devices, here), ("nodes", nodes, hosts)):
            if typed not in ("auto", started):
                raise ValueError(f"trainer.{argument}={typed}: {starter} started {started}; leave it at auto")
        if device.type == "mps" and here > 1:
            raise ValueError(f"trainer.devices={here}: on mps there is one device")
        if device.type == "cuda" and here > gpus():
            raise ValueError(f"trainer.devices={here}: {gpus()} CUDA devices here")
        return cls(strategy if here * hosts > 1 else "single", here, hosts, starter)

    @property
    def size(self) -> int:
        return self.devices * self.nodes

    @property
    def must_start(self) -> bool:
        """Must this command start the processes?"""
        return self.size > 1 and self.starter is None

    def plugins(self) -> list[Any]:
        """Tell Fabric where to learn its rank.

        A single process must not ask: a SLURM array is no group.
        """
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        if self.strategy == "single":
            return [LightningEnvironment()]
        return [SLURMEnvironment() if self.starter == "SLURM" else TorchElasticEnvironment()]


def is_first_here() -> bool:
    """Is this the process of its host that speaks to the user?"""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def several_started() -> bool:
    """Is this one of several processes for one run?

    Only torchrun says so for sure: processes that SLURM starts may have nothing to do with each
    other.
    """
    starter, here, hosts = _started()
    return starter == "torchrun" and here * hosts > 1


def _started() -> tuple[str | None, int, int]:
    """Who started this process as one of several, processes on this host, and hosts."""
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        here = int(env.get("LOCAL_WORLD_SIZE", "1"))
        return "torchrun", here, int(env["WORLD_SIZE"]) // here
    if "SLURM_PROCID" in env and int(env.get("SLURM_NTASKS", "1")) > 1:
        hosts = int(env.get("SLURM_NNODES", "1"))
        return "SLURM", int(env["SLURM_NTASKS"]) // hosts, hosts
    return None, 1, 1


def _check_single(devices: int | str, nodes: int | str) -> None:
    for argument, value in (("devices", devices), ("nodes", nodes)):
        if value not in ("auto", 1):
            raise ValueError(
                f"trainer.{argument}={value}: with trainer.strategy=single there is 1; type trainer=ddp too"
            )
    if several_started():
        raise ValueError(
            f"trainer.strategy=single: torchrun started {os.environ['WORLD_SIZE']} processes; type trainer=ddp or fsdp"
        )


def _count(devices: int | str, *, device: torch.device) -> int:
    if devices != "auto":
        return int(devices)
    return gpus() if device.type == "cuda" else 1


def gpus() -> int:
    import torch

    return torch.cuda.device_count()
