"""`adafactor`: Adam's second moment kept as a row and a column of each matrix (Shazeer & Stern, arXiv 1804.04235).

Memory for the state of an n x m matrix is n + m numbers, not 2nm. Torch's form; no first moment.
"""

from __future__ import annotations

import torch
from torch import nn

from ttt.optimizers.groups import check, decay_groups


class Adafactor:
    """`beta2_decay`: the second moment forgets with 1 - t^beta2_decay at step t. `update_clip`: the largest
    root mean square of an update, beside `clip`, the largest norm of the gradient."""

    def __init__(
        self, *, name: str, lr: float, beta2_decay: float, update_clip: float, weight_decay: float, clip: float | None
    ) -> None:
        check(lr=lr, weight_decay=weight_decay, clip=clip)
        if not beta2_decay <= 0:
            raise ValueError(f"optimizer.beta2_decay={beta2_decay:g}: must not be above 0")
        if not update_clip >= 1:
            raise ValueError(f"optimizer.update_clip={update_clip:g}: must be at least 1")
        self.name, self.clip = name, clip
        self._lr, self._beta2_decay, self._d, self._weight_decay = lr, beta2_decay, update_clip, weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self._weight_decay)
        return torch.optim.Adafactor(groups, lr=self._lr, beta2_decay=self._beta2_decay, d=self._d, eps=(None, 1e-3))
