"""`none`: no fast weights. The static model, which learns in context through attention alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ttt.adapters.base import FastState, Reset, RunsOn
from ttt.models.cache import Cache
from ttt.stream import Batch


class NoAdapter:
    """The plain model behind the interface of an adapter; its state is empty."""

    reset: Reset = "sequence"
    runs_on: RunsOn = "any"
    passes_logits = True
    crossing = 1

    def __init__(self, *, name: str) -> None:
        self.name = name

    def attach(self, model: nn.Module) -> None:
        pass

    def initial(self) -> FastState:
        return {}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        return model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache), {}

    def carry(self, state: FastState) -> FastState:
        return {}

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return "the plain model"

    def diagnostics(self, state: FastState) -> dict[str, float]:
        return {}
