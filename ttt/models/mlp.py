"""`mlp`: the network of the classic tables. Vectors in, linear layers, class scores out.

Each position is read by itself: a row of T positions is T examples. The network has a single head;
with task.scenario=task the stream masks the outputs of other tasks, which amounts to one head for
each task.
Shapes: B batch, T positions, X numbers in a vector, V outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ttt.models.cache import Cache
from ttt.models.units import Units

ACTIVATIONS = {"relu": torch.relu, "gelu": nn.functional.gelu, "silu": nn.functional.silu, "tanh": torch.tanh}


class Mlp(nn.Module):
    """A plain multilayer perceptron. Arguments are explained in conf/model/mlp.yaml."""

    def __init__(
        self,
        *,
        name: str,
        vocab_size: int,
        vector_size: int,
        widths: list[Annotated[int, Ge(1)]],
        activation: Literal["relu", "gelu", "silu", "tanh"],
        init: Literal["torch", "kaiming"],
    ) -> None:
        super().__init__()
        self.name = name
        self._activate = ACTIVATIONS[activation]
        sizes = [vector_size, *widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, widths, strict=False))
        self.head = nn.Linear(sizes[-1], vocab_size)
        if init == "kaiming":
            self._init_kaiming()

    def _init_kaiming(self) -> None:
        for layer in [*self.layers, self.head]:
            assert isinstance(layer, nn.Linear)
            # No nonlinearity follows the head, so its gain is 1.
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear" if layer is self.head else "relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x_BTX: Tensor, *, segment_BT: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return class scores [B, T, V].

        `segment_BT` and `cache` change nothing: positions are independent.
        """
        # Views: Python's flatten and unflatten cost as much as a small layer.
        h = x_BTX.reshape(-1, x_BTX.shape[-1])
        for layer in self.layers:
            h = self._activate(layer(h))
        scores: Tensor = self.head(h)
        return scores.view(*x_BTX.shape[:-1], -1)

    def units(self) -> Sequence[Units]:
        """Return the hidden units of each layer; the next layer, or the head, reads them."""
        after = [*self.layers, self.head][1:]
        return [
            Units(f"layers.{i}", [layer], following)
            for i, (layer, following) in enumerate(zip(self.layers, after, strict=True))
            if isinstance(layer, nn.Linear)
        ]
