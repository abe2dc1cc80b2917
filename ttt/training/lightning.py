"""A learner for a stock `lightning.Trainer`, on one task.

The stream loop does without: see docs/decisions.md.
"""

from __future__ import annotations

import torch
from lightning import LightningModule
from torch import Tensor

from ttt.learner import Learner
from ttt.stream import Batch
from ttt.training.recipe import Recipe
from ttt.training.train import loss_of


class LightningLearner(LightningModule):
    def __init__(self, learner: Learner, *, recipe: Recipe | None = None) -> None:
        super().__init__()
        self.learner = learner
        self._recipe = recipe or Recipe()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return loss_of(self.learner, self._recipe, batch, step=batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.learner.configure_optimizers()
