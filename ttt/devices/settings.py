"""Where and how to compute: devices, precision, threads."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt

from ttt.devices.cores import usable_threads
from ttt.devices.one_device import PLAIN, Devices, OneDevice
from ttt.devices.precision import best_precision
from ttt.devices.processes import World

# How long a process waits for the others: runs that start together wait for the first to train
# their base. A process that has died is noticed at once by who started it.
PATIENCE = timedelta(days=2)


class TrainerSettings:
    """Arguments are explained in conf/trainer/default.yaml."""

    def __init__(
        self,
        *,
        strategy: Literal["single", "ddp", "fsdp"],
        devices: Annotated[int, Ge(1)] | Literal["auto"],
        nodes: Annotated[int, Ge(1)] | Literal["auto"],
        accumulate: Annotated[int, Ge(1)],
        context_parallel: Annotated[int, Ge(1)] = 1,
        recompute: bool = False,
        accelerator: Literal["auto", "cpu", "cuda", "mps"],
        precision: Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed"],
        threads: Annotated[int, Ge(1)] | Literal["auto"],
        report_every: Annotated[int, Ge(1)],
        workers: Annotated[int, Ge(0)],
        save_every: Annotated[int, Ge(1)] | None = None,
        save_minutes: Annotated[float, Gt(0)] | None = 10.0,
        save_task_seconds: Annotated[float, Ge(0)] = 5.0,
        checkpoint: Literal["auto", "whole", "sharded"] = "auto",
        on_divergence: Literal["stop", "skip"] = "stop",
    ) -> None:
        if accelerator == "cuda" and not torch.cuda.is_available():
            raise ValueError("trainer.accelerator=cuda: no CUDA device here")
        self._accelerator = accelerator
        self._precision = precision
        self.world = World.of(strategy=strategy, devices=devices, nodes=nodes, device=self.device())
        # A scaler would skip a step on one device and not on another.
        if self.world.strategy == "fsdp" and precision == "16-mixed":
            raise ValueError("trainer.precision=16-mixed: not with trainer.strategy=fsdp; use bf16-mixed")
        self.threads = int(threads) if threads != "auto" else max(1, usable_threads() // self.world.devices)
        self.accumulate, self.recompute, self.context_parallel = accumulate, recompute, context_parallel
        self._check_context()
        self.report_every = report_every
        self.workers = workers
        self.save_every, self.save_minutes, self.save_task_seconds = save_every, save_minutes, save_task_seconds
        is_cut = self.world.strategy == "fsdp"
        self.shards_checkpoints = checkpoint == "sharded" or (checkpoint == "auto" and is_cut)
        if self.shards_checkpoints and not is_cut:
            raise ValueError(
                f"trainer.checkpoint=sharded: with trainer.strategy={self.world.strategy} every process holds "
                "all weights; use whole, or trainer=fsdp"
            )
        self.skips = on_divergence == "skip"
        # Which step to skip is for all devices to see, and each holds a part of the gradient only.
        if self.skips and self.world.strategy == "fsdp":
            raise ValueError("trainer.on_divergence=skip: not with trainer.strategy=fsdp; use stop")

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
    def is_cut(self) -> bool:
        """Does each device hold a share of the parameters only?"""
        return self.world.strategy == "fsdp" and self.world.size > 1

    @property
    def parts(self) -> int:
        """How many parts a batch is cut into: over devices and in turn."""
        return self.world.size * self.accumulate

    @property
    def row_parts(self) -> int:
        """How many parts, of equally many rows, a batch is cut into."""
        return self.parts // self.context_parallel

    def _check_context(self) -> None:
        typed = f"trainer.context_parallel={self.context_parallel}"
        if self.context_parallel == 1:
            return
        if self.world.strategy == "fsdp":
            raise ValueError(f"{typed}: not with trainer.strategy=fsdp; use trainer=ddp")
        if self.world.size % self.context_parallel:
            raise ValueError(
                f"{typed}: must divide the {self.world.size} process{'es' if self.world.size > 1 else ''} of this run; "
                f"type trainer=ddp trainer.devices={self.context_parallel}, or a multiple of it"
            )

    def fabric(self) -> Devices:
        """Set up the devices; join the other processes, where there are any."""
        torch.set_num_threads(self.threads)
        if self.world.size == 1 and self.precision in PLAIN:
            return OneDevice(self.device(), precision=self.precision)
        # Imported here: it takes longer than torch itself.
        from lightning.fabric import Fabric

        # What Fabric prints ("Using bfloat16 ...") is in the first lines of a run anyway.
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
