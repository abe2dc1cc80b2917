"""How the next token is picked from its logits: the likeliest, or drawn from the likely ones.

Shapes: B lanes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    `temperature`: 0 takes the likeliest token, 1 draws as the model predicts. `top_k`: draw from
    the k likeliest; `top_p`: draw from the likeliest that together have this probability. `stop`:
    tokens that end a lane. `seed` decides the draws. Raises ValueError for what cannot be.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    stop: Collection[int] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature}: must be 0 or above")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must lie above 0 and be at most 1")

    def pick(self, logits_BV: Tensor, generator: torch.Generator) -> Tensor:
        """The next token of each lane, [B]."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        p_BV = self.probabilities(logits_BV)
        # Drawn on the CPU, so that a seed means the same on every device.
        return torch.multinomial(p_BV.cpu(), 1, generator=generator)[:, 0].to(logits_BV.device)

    def probabilities(self, logits_BV: Tensor) -> Tensor:
        """What is drawn from, [B, V]; temperature must be above 0."""
        scaled_BV = logits_BV.float() / self.temperature
        if self.top_k is not None and self.top_k < scaled_BV.shape[1]:
            # Ties with the k-th stay, so that nothing depends on how equal ones are sorted.
            least_B1 = scaled_BV.topk(self.top_k).values[:, -1:]
            scaled_BV = scaled_BV.masked_fill(scaled_BV < least_B1, float("-inf"))
        p_BV = scaled_BV.softmax(-1)
        if self.top_p is None:
            return p_BV
        sorted_BV, order_BV = p_BV.sort(descending=True, stable=True)
        # A token stays if those before it do not have enough yet: the likeliest one always stays.
        sorted_BV = sorted_BV.masked_fill(sorted_BV.cumsum(-1) - sorted_BV >= self.top_p, 0.0)
        kept_BV = torch.zeros_like(p_BV).scatter(1, order_BV, sorted_BV)
        return kept_BV / kept_BV.sum(-1, keepdim=True)
