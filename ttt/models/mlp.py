"""`mlp`: the network of the classic tables. Vectors in, one linear layer after another, class scores out.

It reads each position by itself: a row of K examples is K examples. Heads are a matter of the stream: with
task.scenario=task only the outputs of a row's own task compete, which is a head for each task.
Shapes: B batch, T positions, X numbers in a vector, V outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ttt.models.cache import Cache
from ttt.models.units import Units

ACTIVATIONS = {"relu": torch.relu, "gelu": nn.functional.gelu, "silu": nn.functional.silu, "tanh": torch.tanh}

INITS = ("torch", "kaiming")


class Mlp(nn.Module):
    """Arguments are explained in conf/model/mlp.yaml."""

    def __init__(
        self, *, name: str, vocab_size: int, vector_size: int, widths: list[int], activation: str, init: str
    ) -> None:
        super().__init__()
        if any(width < 1 for width in widths):
            raise ValueError(f"model.widths={widths}: each must be at least 1")
        if activation not in ACTIVATIONS:
            raise ValueError(f"model.activation={activation}: must be one of {', '.join(ACTIVATIONS)}")
        self.name = name
        self._activate = ACTIVATIONS[activation]
        sizes = [vector_size, *widths]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, widths, strict=False))
        self.head = nn.Linear(sizes[-1], vocab_size)
        if init not in INITS:
            raise ValueError(f"model.init={init}: must be one of {', '.join(INITS)}")
        for layer in [*self.layers, self.head] if init == "kaiming" else []:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear" if layer is self.head else "relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x_BTX: Tensor, *, segment_BT: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Class scores [B, T, V]."""
        # Views: flatten and unflatten of Python cost as much as a small layer.
        h = x_BTX.reshape(-1, x_BTX.shape[-1])
        for layer in self.layers:
            h = self._activate(layer(h))
        scores: Tensor = self.head(h)
        return scores.view(*x_BTX.shape[:-1], -1)

    def units(self) -> Sequence[Units]:
        after = [*self.layers, self.head][1:]
        return [
            Units(f"layers.{i}", [layer], following)
            for i, (layer, following) in enumerate(zip(self.layers, after, strict=True))
            if isinstance(layer, nn.Linear)
        ]
