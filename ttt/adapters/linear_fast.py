"""Adapters that step on linear layers of the model: what `lora_fast` and `sgd_fast` share.

Shapes: B batch (lanes), C cells per chunk, V vocabulary, T time, I inputs, O outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ttt.adapters.base import FastState, RunsOn
from ttt.adapters.descent import ChunkTokens, Descent
from ttt.models.cache import Cache
from ttt.stream import Batch


class FastLinear(nn.Module, ABC):
    """An addition to the output of one linear layer, computed from its fast weights [B, ...]."""

    @abstractmethod
    def initial(self) -> dict[str, Tensor]:
        """The fast weights before any step: zeros [1, ...]."""

    @abstractmethod
    def forward(self, x_BTI: Tensor, fast: Mapping[str, Tensor]) -> Tensor:
        """The addition, [B, T, O]."""


class LinearFast:
    """An adapter with hooks on linear layers; a descent moves the weights of their additions."""

    # A step differentiates through references to whole parameters, outside FSDP's own passes.
    runs_on: RunsOn = "ddp"

    def __init__(self, *, name: str, descent: Descent) -> None:
        self.name, self.reset = name, descent.lifetime.reset
        self._descent = descent
        self._parts: dict[str, FastLinear] = {}
        # The weights under which the model is called now. Hooks cannot receive them as arguments.
        self._fast: FastState = {}

    def hook(self, linear: nn.Linear, part: FastLinear, *, name: str) -> None:
        """Put `part` beside `linear`; its own parameters become parameters of the model."""
        self._parts[name] = part
        linear.add_module("fast", part)
        linear.register_forward_hook(partial(self._add, name))

    def _add(self, name: str, linear: nn.Module, args: tuple[Any, ...], out_BTO: Tensor) -> Tensor:
        if not self._fast:
            return out_BTO
        part = self._parts[name]
        # States are fp32; under autocast activations are not.
        weights = {key: self._fast[f"{name}.{key}"].to(args[0].dtype) for key in part.initial()}
        return out_BTO + part(args[0], weights)

    def initial(self) -> FastState:
        return {f"{name}.{key}": x for name, part in self._parts.items() for key, x in part.initial().items()}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        if not write and cache is None and not any(bool(x.any()) for x in state.values()):
            # Nothing is written, now or before: the plain model reads all chunks at once.
            return model(batch.tokens_BT, segment_BT=batch.segment_BT), state
        return self._descent.read(model, batch, state, attach=self, write=write, cache=cache)

    def logits(self, model: nn.Module, chunk: ChunkTokens, *, cache: Cache, fast: FastState) -> Tensor:
        self._fast = fast
        try:
            logits_BCV: Tensor = model(chunk.tokens_BC, segment_BT=chunk.segment_BC, cache=cache)
        finally:
            # Calls of the model outside this method are those of the plain model.
            self._fast = {}
        return logits_BCV

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return self._descent.executor(length=length)

    def carry(self, state: FastState) -> FastState:
        return self._descent.lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """The norm of the fast weights (root mean square over lanes) and the step size."""
        square = sum((x.square().flatten(1).sum(1).mean() for x in state.values()), torch.zeros(()))
        return {"state_norm": float(square.sqrt()), "step": float(self._descent.log_step.detach().exp())}


def adopt(model: nn.Module, descent: Descent) -> None:
    """Make the learned step size a parameter of the model, so that its optimizer trains it."""
    model.add_module("descent", descent)
