"""A learner for a stock `lightning.Trainer`, on one task. The stream loop does without: see docs/decisions.md."""

from __future__ import annotations

import torch
from lightning import LightningModule
from torch import Tensor

from ttt.learner import Learner
from ttt.stream import Batch


class LightningLearner(LightningModule):
    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.learner.training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.learner.configure_optimizers()
