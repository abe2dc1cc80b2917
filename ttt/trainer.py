"""Where and how to compute: device, precision, threads."""

from __future__ import annotations

import logging
import os

import torch
from lightning.fabric import Fabric

from ttt.environment import best_precision

PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "cuda", "mps")


class TrainerSettings:
    """Arguments are explained in conf/trainer/default.yaml."""

    def __init__(
        self, *, accelerator: str, precision: str, threads: int | str, report_every: int, workers: int
    ) -> None:
        for argument, value, allowed in (
            ("accelerator", accelerator, ACCELERATORS),
            ("precision", precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ValueError(f"trainer.{argument}={value}: must be one of {', '.join(allowed)}")
        if report_every < 1:
            raise ValueError(f"trainer.report_every={report_every}: must be at least 1")
        if workers < 0:
            raise ValueError(f"trainer.workers={workers}: must be at least 0")
        if threads != "auto" and not (isinstance(threads, int) and threads >= 1):
            raise ValueError(f"trainer.threads={threads}: must be auto or a number of at least 1")
        if accelerator == "cuda" and not torch.cuda.is_available():
            raise ValueError("trainer.accelerator=cuda: no CUDA device here")
        self._accelerator = accelerator
        self._precision = precision
        self.threads = int(threads) if threads != "auto" else os.cpu_count() or 1
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

    def fabric(self) -> Fabric:
        torch.set_num_threads(self.threads)
        # What it has to say ("Using bfloat16 ...") stands in our own first lines.
        for name in ("lightning.fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        fabric = Fabric(
            accelerator=self.device().type,
            devices=1,
            precision=self.precision,  # type: ignore[arg-type]
        )
        fabric.launch()
        return fabric
