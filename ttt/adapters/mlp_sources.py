"""What targets of `mlp_fast` are made of: embeddings, the same for all layers, or hidden states.

Shapes: B batch (lanes), T time, D model width.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SourceName = Literal["embeddings", "embeddings_raw", "hidden", "hidden_raw"]


class Sources:
    """The embeddings of a pass, or the inputs of its MLPs; normalised unless `name` says raw."""

    def __init__(self, name: SourceName) -> None:
        self.hidden, self._raw = name.startswith("hidden"), name.endswith("_raw")
        self._shared_BTD: Tensor | None = None
        self._of_layer: dict[str, Tensor] = {}

    def listen(self, mlp: nn.Module, name: str) -> None:
        # The down-projection receives activations only; its MLP's input passes through a hook.
        if self.hidden:
            mlp.register_forward_pre_hook(partial(self._hear, name))

    def _hear(self, name: str, mlp: nn.Module, args: tuple[Any, ...]) -> None:
        self._of_layer[name] = args[0]

    def share(self, embed_BTD: Tensor) -> None:
        """Offer the embeddings of this pass to all layers."""
        self._shared_BTD = working_precision(self._normal(embed_BTD))

    def take(self, name: str) -> Tensor:
        """The source of one layer, [B, T, D]."""
        if not self.hidden:
            assert self._shared_BTD is not None
            return self._shared_BTD
        # Popped, so that no activation outlives the pass.
        return self._normal(self._of_layer.pop(name))

    def _normal(self, x_BTD: Tensor) -> Tensor:
        return x_BTD if self._raw else F.rms_norm(x_BTD, x_BTD.shape[-1:])


def working_precision(x: Tensor) -> Tensor:
    """Cast once to the precision to which autocast would cast in every layer."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
