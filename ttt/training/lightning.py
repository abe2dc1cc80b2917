"""A learner for a stock `lightning.Trainer`, on one task.

The stream loop does without: see docs/decisions.md. Strategy and pace belong to that loop, and the
trainer clips by itself (`gradient_clip_val`).
"""

from __future__ import annotations

import torch
from lightning import LightningModule
from torch import Tensor

from ttt.learner import Learner
from ttt.objectives.base import Objective
from ttt.stream import Batch
from ttt.training.recipe import Recipe
from ttt.training.train import loss_of


class LightningLearner(LightningModule):
    def __init__(self, learner: Learner, *, objective: Objective | None = None) -> None:
        super().__init__()
        self.learner = learner
        self._recipe = Recipe() if objective is None else Recipe(objective=objective)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return loss_of(self.learner, self._recipe, batch, step=batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.learner.configure_optimizers()
