"""Adapters that step on linear layers of the model: what `lora_fast` and `sgd_fast` share.

Shapes: B batch (lanes), C cells a chunk, V vocabulary, T time, I inputs, O outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ttt.adapters.base import FastState
from ttt.adapters.descent import Descent, Row
from ttt.models.cache import Cache
from ttt.stream import Batch


class FastLinear(nn.Module, ABC):
    """What one linear layer adds to its output, given its fast weights, each [B, ...]."""

    @abstractmethod
    def initial(self) -> dict[str, Tensor]:
        """Zeros, [1, ...]."""

    @abstractmethod
    def forward(self, x_BTI: Tensor, fast: Mapping[str, Tensor]) -> Tensor:
        """What is added, [B, T, O]."""


class LinearFast:
    """The adapter: hooks on linear layers, and a descent that moves what they add."""

    def __init__(self, *, name: str, descent: Descent) -> None:
        self.name, self.reset = name, descent.lifetime.reset
        self._descent = descent
        self._parts: dict[str, FastLinear] = {}
        self._fast: FastState = {}

    def hook(self, linear: nn.Linear, part: FastLinear, *, name: str) -> None:
        """Put `part` beside `linear`; what it learns becomes a parameter of the model."""
        self._parts[name] = part
        linear.add_module("fast", part)
        linear.register_forward_hook(partial(self._add, name))

    def _add(self, name: str, linear: nn.Module, args: tuple[Any, ...], out_BTO: Tensor) -> Tensor:
        if not self._fast:
            return out_BTO
        part = self._parts[name]
        mine = {key: self._fast[f"{name}.{key}"].to(args[0].dtype) for key in part.initial()}
        return out_BTO + part(args[0], mine)

    def initial(self) -> FastState:
        return {f"{name}.{key}": x for name, part in self._parts.items() for key, x in part.initial().items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        if not write and cache is None and not any(bool(x.any()) for x in state.values()):
            # Nothing was ever written, and nothing will be: the plain model.
            return model(batch.tokens_BT, segment_BT=batch.segment_BT), state
        return self._descent.read(model, batch, state, attach=self, write=write, cache=cache)

    def logits(self, model: nn.Module, row: Row, *, cache: Cache, fast: FastState) -> Tensor:
        self._fast = fast
        try:
            logits_BCV: Tensor = model(row.tokens_BC, segment_BT=row.segment_BC, cache=cache)
        finally:
            self._fast = {}
        return logits_BCV

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return self._descent.executor(length=length)

    def carry(self, state: FastState) -> FastState:
        return self._descent.lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """The norm of all that was written, a lane, and the step size."""
        square = sum((x.square().flatten(1).sum(1).mean() for x in state.values()), torch.zeros(()))
        return {"state_norm": float(square.sqrt()), "step": float(self._descent.log_step.detach().exp())}


def adopt(model: nn.Module, descent: Descent) -> None:
    """The learned step size becomes a parameter of the model."""
    model.add_module("descent", descent)
