"""A cache's predictions mixed into those of the model, in log space and in blocks of queries.

Shapes: B batch (lanes), T time, V vocabulary, A places of a window, R queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.cache_window import Find, Window

# Pairs of a query and a value that are compared at once.
PAIRS = 1 << 22


@dataclass(frozen=True)
class Sight:
    """Which values of a window a token may read: itself, and those up to `size` - 1 before it.

    `by_document`: values of other documents are hidden.
    """

    window: Window
    size: int
    by_document: bool

    def seen(self, place_BR: Tensor) -> Tensor:
        """[B, R, A]: may the token at a place read this value?"""
        window = self.window
        place_A = torch.arange(window.token_BA.shape[1], device=place_BR.device)
        # A token is known once it was read: its own value predicts the one after it.
        distance_BRA = place_BR[..., None] - place_A
        seen_BRA = window.is_value_BA[:, None] & (distance_BRA >= 0) & (distance_BRA < self.size)
        if self.by_document:
            seen_BRA &= place_A >= window.start_BA.gather(1, place_BR)[..., None]
        return seen_BRA


class Mixture(nn.Module):
    """p = (1 - mix (1 - rest)) p_model + mix sum_i weight_i [token i]; `mix` is a sigmoid."""

    def __init__(self, lookup: nn.Module, *, mix: float, learned: bool) -> None:
        super().__init__()
        # Any: nn.Module's attributes are Tensor or Module to a type checker, never a protocol.
        self.lookup: Any = lookup
        self.logit = nn.Parameter(torch.tensor(math.log(mix / (1 - mix))), requires_grad=learned)

    def forward(self, logits_BTV: Tensor, sight: Sight, find: Find) -> Tensor:
        """Log-probabilities [B, T, V]: as logits, they have the same cross-entropy."""
        window = sight.window
        rows = max(PAIRS // window.token_BA.numel(), 1)
        blocks = zip(logits_BTV.split(rows, 1), window.place_BT.split(rows, 1), strict=True)
        mixed = [self._mixed(logits_BRV, place_BR, sight, find) for logits_BRV, place_BR in blocks]
        return torch.cat(mixed, 1)

    def _mixed(self, logits_BRV: Tensor, place_BR: Tensor, sight: Sight, find: Find) -> Tensor:
        weight_BRA, rest_BR = find(place_BR, sight.seen(place_BR))
        token_BRA = sight.window.token_BA.clamp(min=0)[:, None].expand_as(weight_BRA)
        # Scattered, not multiplied by one-hots: vocabularies may be large.
        zeros_BRV = torch.zeros_like(logits_BRV, dtype=weight_BRA.dtype)
        cached_BRV = zeros_BRV.scatter_add(-1, token_BRA, weight_BRA)
        model_BRV = F.log_softmax(logits_BRV.to(weight_BRA.dtype), -1)
        share = self.logit.sigmoid()
        tiny = torch.finfo(weight_BRA.dtype).tiny
        left_BR1 = (1 - share * (1 - rest_BR))[..., None].clamp(min=tiny)
        return torch.logaddexp(left_BR1.log() + model_BRV, (share * cached_BRV).clamp(min=tiny).log())
