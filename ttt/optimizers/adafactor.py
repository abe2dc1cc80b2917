"""`adafactor`: Adam with a factored second moment (Shazeer & Stern, arXiv 1804.04235).

The second moment of an n x m matrix is kept as one row and one column: n + m numbers, where Adam
keeps 2nm for both moments. Torch's form, which has no first moment.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import nn

from ttt.optimizers.groups import Clip, Rate, WeightDecay, decay_groups


class Adafactor:
    """Adafactor that decays matrices only. Arguments: see conf/optimizer/adafactor.yaml.

    `update_clip` bounds the root mean square of an update, `clip` the norm of the gradient.
    """

    def __init__(
        self,
        *,
        name: str,
        lr: Rate,
        beta2_decay: Annotated[float, Le(0)],
        update_clip: Annotated[float, Ge(1)],
        weight_decay: WeightDecay,
        clip: Clip,
    ) -> None:
        self.name, self.clip = name, clip
        self._lr, self._beta2_decay, self._d, self._weight_decay = lr, beta2_decay, update_clip, weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self._weight_decay)
        # The second eps is the least size of a matrix that counts: one near zero still moves.
        return torch.optim.Adafactor(groups, lr=self._lr, beta2_decay=self._beta2_decay, d=self._d, eps=(None, 1e-3))
