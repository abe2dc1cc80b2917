"""What followed a similar hidden state before: the continuous cache (Grave et al., 1612.04426).

    weight_i = softmax_i(sharpness * <h_t, h_i>)        of the token after h_i

h is the input of the model's output layer, here of unit length, so that one sharpness suits models
of every width.
Shapes: B batch (lanes), T time, A places of a window, R queries, K values in sight,
D model width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.cache_window import Find, Window


class Similar(nn.Module):
    """How much each earlier token says about the next one, by the hidden states before both."""

    def __init__(self, *, sharpness: float, learned: bool) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness)), requires_grad=learned)

    def open(self, window: Window, hidden_BAD: Tensor) -> Find:
        return partial(self._find, hidden_BAD)

    def _find(self, hidden_BAD: Tensor, place_BR: Tensor, is_seen_BRK: Tensor, span: slice) -> tuple[Tensor, Tensor]:
        query_BRD = hidden_BAD.gather(1, place_BR[..., None].expand(-1, -1, hidden_BAD.shape[-1]))
        # A value's hidden state lies one place before it.
        key_BKD = F.pad(hidden_BAD, (0, 0, 1, -1))[:, span]
        score_BRK = self.log_sharpness.exp() * query_BRD @ key_BKD.mT
        # Not -inf: a softmax over nothing would be NaN.
        score_BRK = score_BRK.masked_fill(~is_seen_BRK, torch.finfo(score_BRK.dtype).min)
        weight_BRK = score_BRK.softmax(-1) * is_seen_BRK
        return weight_BRK, (~is_seen_BRK.any(-1)).to(weight_BRK.dtype)

    def numbers(self) -> dict[str, float]:
        return {"sharpness": float(self.log_sharpness.detach().exp())}


class HiddenStates:
    """Hears the input of a model's output layer. Raises ValueError for a model without one."""

    def __init__(self, model: nn.Module, *, adapter: str) -> None:
        self._heard: list[Tensor] | None = None
        head, norm = getattr(model, "get_output_embeddings", None), getattr(model, "norm", None)
        if head is not None:
            head().register_forward_pre_hook(lambda module, args: self._hear(args[0]))
        elif isinstance(norm, nn.Module):
            # A tied output layer is no module: what comes out of the last norm goes into it.
            norm.register_forward_hook(lambda module, args, out: self._hear(out))
        else:
            raise ValueError(f"adapter={adapter}: {type(model).__name__} shows no input of its output layer")

    def _hear(self, x_BTD: Any) -> None:
        if self._heard is not None:
            self._heard.append(x_BTD)

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """While open, collect hidden states [B, T, D] of each pass."""
        self._heard = []
        try:
            yield self._heard
        finally:
            self._heard = None
