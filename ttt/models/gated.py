"""Gated MLPs of any model, found by their structure and not by a list of names.

    h = act(gate x) * (up x)      y = down h

A module is a gated MLP if its matrices are two that lead from D to F and one that leads back, or
one that leads from D to 2 F (gate and up in one, as in Phi-3) and one that leads back.
Shapes: D model width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class GatedMlp:
    """One gated MLP: `module` calls its child `down_name` on the gated activations.

    `into`: the matrices that lead to the activations, by name: gate and up, or both in one.
    """

    name: str
    module: nn.Module
    into: Mapping[str, nn.Linear]
    down_name: str

    @property
    def down(self) -> nn.Module:
        """The module that reads the activations: the model's own layer, or an adapter's."""
        return self.module.get_submodule(self.down_name)


def gated_mlps(model: nn.Module) -> list[GatedMlp]:
    """Return the gated MLPs of `model`, in order of depth."""
    candidates = (_gated(name, module) for name, module in model.named_modules())
    return [mlp for mlp in candidates if mlp is not None]


def down_projections_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the name of each gated MLP -> its down-projection, with or without fast weights."""
    return {mlp.name: mlp.down for mlp in gated_mlps(model)}


def _gated(name: str, module: nn.Module) -> GatedMlp | None:
    """Return `module` as a gated MLP, or None if it is something else."""
    children = dict(module.named_children())
    matrices = {child: layer for child, layer in children.items() if _shape(layer) is not None}
    if len(matrices) not in (2, 3):
        return None
    # Models list the down-projection last; where F = D the shapes alone would not tell it.
    *into_names, down_name = matrices
    into = {child: layer for child in into_names if isinstance(layer := matrices[child], nn.Linear)}
    width, hidden = _shape(matrices[down_name]) or (0, 0)
    rows = 2 * hidden if len(into_names) == 1 else hidden
    if len(into) != len(into_names) or any(_shape(layer) != (rows, width) for layer in into.values()):
        return None
    # Attention with its queries, keys and values in one matrix may have these shapes too, but no
    # module that acts on each number by itself.
    if len(into) == 1 and not any(_is_activation(layer) for layer in children.values()):
        return None
    return GatedMlp(name, module, into, down_name)


def _shape(layer: nn.Module) -> tuple[int, int] | None:
    """Return (outputs, inputs) of a layer with a matrix; None for any other module."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or isinstance(layer, nn.Embedding):
        return None
    return weight.shape[0], weight.shape[1]


def _is_activation(layer: nn.Module) -> bool:
    holds_nothing = not any(True for _ in layer.parameters()) and not any(True for _ in layer.buffers())
    return holds_nothing and not isinstance(layer, nn.Dropout | nn.Identity)
