"""A cache's predictions mixed into those of the model, in log space and in blocks of queries.

Shapes: B batch (lanes), T time, V vocabulary, A places of a window, R queries,
K values in sight.
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

    def span(self, place_BR: Tensor) -> slice:
        """All places that tokens at these places may read."""
        return slice(max(int(place_BR.min()) - self.size + 1, 0), int(place_BR.max()) + 1)

    def seen(self, place_BR: Tensor, span: slice) -> Tensor:
        """[B, R, K]: may the token at a place read this value?"""
        window = self.window
        place_K = torch.arange(span.start, span.stop, device=place_BR.device)
        # A token is known once it was read: its own value predicts the one after it.
        distance_BRK = place_BR[..., None] - place_K
        seen_BRK = window.is_value_BA[:, None, span] & (distance_BRK >= 0) & (distance_BRK < self.size)
        if self.by_document:
            seen_BRK &= place_K >= window.start_BA.gather(1, place_BR)[..., None]
        return seen_BRK


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
        lanes, places = window.token_BA.shape
        # Blocks no longer than the cache: time grows with the sequence, not with its square.
        rows = max(min(PAIRS // (lanes * min(places, 2 * sight.size)), sight.size), 1)
        blocks = zip(logits_BTV.split(rows, 1), window.place_BT.split(rows, 1), strict=True)
        mixed = [self._mixed(logits_BRV, place_BR, sight, find) for logits_BRV, place_BR in blocks]
        return torch.cat(mixed, 1)

    def _mixed(self, logits_BRV: Tensor, place_BR: Tensor, sight: Sight, find: Find) -> Tensor:
        span = sight.span(place_BR)
        weight_BRK, rest_BR = find(place_BR, sight.seen(place_BR, span), span)
        token_BRK = sight.window.token_BA.clamp(min=0)[:, None, span].expand_as(weight_BRK)
        # Scattered, not multiplied by one-hots: vocabularies may be large.
        zeros_BRV = torch.zeros_like(logits_BRV, dtype=weight_BRK.dtype)
        cached_BRV = zeros_BRV.scatter_add(-1, token_BRK, weight_BRK)
        model_BRV = F.log_softmax(logits_BRV.to(weight_BRK.dtype), -1)
        share = self.logit.sigmoid()
        tiny = torch.finfo(weight_BRK.dtype).tiny
        left_BR1 = (1 - share * (1 - rest_BR))[..., None].clamp(min=tiny)
        return torch.logaddexp(left_BR1.log() + model_BRV, (share * cached_BRV).clamp(min=tiny).log())
