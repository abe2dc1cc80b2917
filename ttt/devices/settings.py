"""Where and how to compute: devices, precision, threads."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Any

import torch

from ttt.devices.one_device import PLAIN, Devices, OneDevice
from ttt.devices.processes import World
from ttt.storage.environment import best_precision

PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "cuda", "mps")
# How long a process waits for the others: runs that start together wait for the first to train their base. One that
# has died is noticed at once by who started it.
PATIENCE = timedelta(days=2)


class TrainerSettings:
    """Arguments are explained in conf/trainer/default.yaml."""

    def __init__(
        self,
        *,
        strategy: str,
        devices: int | str,
        nodes: int | str,
        accumulate: int,
        accelerator: str,
        precision: str,
        threads: int | str,
        report_every: int,
        workers: int,
    ) -> None:
        for argument, value, allowed in (
            ("accelerator", accelerator, ACCELERATORS),
            ("precision", precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ValueError(f"trainer.{argument}={value}: must be one of {', '.join(allowed)}")
        for argument, number, least in (
            ("report_every", report_every, 1),
            ("accumulate", accumulate, 1),
            ("workers", workers, 0),
        ):
            if number < least:
                raise ValueError(f"trainer.{argument}={number}: must be at least {least}")
        if threads != "auto" and not (isinstance(threads, int) and threads >= 1):
            raise ValueError(f"trainer.threads={threads}: must be auto or a number of at least 1")
        if accelerator == "cuda" and not torch.cuda.is_available():
            raise ValueError("trainer.accelerator=cuda: no CUDA device here")
        self._accelerator = accelerator
        self._precision = precision
        self.world = World.of(strategy=strategy, devices=devices, nodes=nodes, device=self.device())
        # Its scaler would skip a step on one device and not on another.
        if self.world.strategy == "fsdp" and precision == "16-mixed":
            raise ValueError("trainer.precision=16-mixed: not with trainer.strategy=fsdp; use bf16-mixed")
        cores = os.cpu_count() or 1
        self.threads = int(threads) if threads != "auto" else max(1, cores // self.world.devices)
        self.accumulate = accumulate
        self.report_every = report_every
        self.workers = workers

    def device(self) -> torch.device:
        """What `accelerator` means here."""
        if self._accelerator in ("auto", "cuda") and torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu" if self._accelerator in ("auto", "cuda") else self._accelerator)

    @property
    def precision(self) -> str:
        """What `precision` means here; part of what determines the numbers."""
        return best_precision(self.device()) if self._precision == "auto" else self._precision

    @property
    def dtype(self) -> torch.dtype:
        """What matrix products are computed in."""
        return {"bf": torch.bfloat16, "16": torch.float16}.get(self.precision[:2], torch.float32)

    @property
    def parts(self) -> int:
        """Into how many parts of equally many rows a batch is cut, over devices and one after another."""
        return self.world.size * self.accumulate

    def fabric(self) -> Devices:
        """Joins the other processes, where there are any."""
        torch.set_num_threads(self.threads)
        if self.world.size == 1 and self.precision in PLAIN:
            return OneDevice(self.device(), precision=self.precision)
        # Imported here: it takes longer than torch itself.
        from lightning.fabric import Fabric

        # What it has to say ("Using bfloat16 ...") stands in our own first lines.
        for name in ("lightning.fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        fabric = Fabric(
            accelerator=self.device().type,
            devices=self.world.devices,
            num_nodes=self.world.nodes,
            strategy=self._strategy(),
            precision=self.precision,  # type: ignore[arg-type]
            plugins=self.world.plugins(),
        )
        fabric.launch()
        return fabric

    def _strategy(self) -> Any:
        if self.world.strategy == "single":
            return "auto"
        from lightning.fabric.strategies.ddp import DDPStrategy
        from lightning.fabric.strategies.model_parallel import ModelParallelStrategy

        from ttt.devices.shards import shard

        if self.world.strategy == "ddp":
            return DDPStrategy(timeout=PATIENCE)
        return ModelParallelStrategy(
            shard, data_parallel_size=self.world.size, tensor_parallel_size=1, timeout=PATIENCE
        )
