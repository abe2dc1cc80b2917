"""Low-rank updates beside frozen weights: what lora_task and olora share.

    o = W0 x + (alpha / r) B (A x)        A: random at first, B: zero

LoRA (Hu et al. 2021, arXiv 2106.09685). All slow weights are frozen, embeddings, norms and biases
too. Each chosen linear layer gets an update, added by a hook, because the layer may have fast
weights of its own (FastDown).
Shapes: R rank, I inputs, O outputs.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from ttt.config.messages import show, suggest
from ttt.learner import Engine
from ttt.strategies.base import Strategy
from ttt.strategies.shared import AtLeastOne, generator
from ttt.stream import Stream

Alpha = Annotated[float, Gt(0)]


class LowRank(nn.Module):
    """The update of one layer, scaled by alpha / rank."""

    def __init__(self, weight: Tensor, *, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        # In fp32 at least, since half precision would round small steps away.
        zeros = partial(weight.new_zeros, dtype=torch.promote_types(weight.dtype, torch.float32))
        self.a_RI = nn.Parameter(zeros(rank, inputs))
        self.b_OR = nn.Parameter(zeros(outputs, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """Return what the update adds to the layer's output."""
        # Two thin products are enough: the matrix B A, as large as W0, is never built.
        a_RI, b_OR = self.a_RI.to(x.dtype), self.b_OR.to(x.dtype)
        return self.scale * F.linear(F.linear(x, a_RI), b_OR)

    def start(self, random: torch.Generator) -> None:
        """Draw A as nn.Linear draws its weight, and set B to zero: nothing is added yet."""
        # nn.Linear draws from U(-1 / sqrt(I), 1 / sqrt(I)). The draw is made on the CPU, so that
        # all devices begin alike.
        bound = self.a_RI.shape[1] ** -0.5
        self.a_RI.copy_((2 * torch.rand(self.a_RI.shape, generator=random) - 1) * bound)
        self.b_OR.zero_()

    def delta(self) -> Tensor:
        """Return the matrix that the update adds to W0."""
        return self.scale * self.b_OR @ self.a_RI


class LowRankUpdates(Strategy):
    """Trains one update beside each chosen layer; everything else is frozen."""

    runs_on = "ddp"
    replaces = True

    def __init__(self, *, name: str, rank: AtLeastOne, alpha: Alpha, layers: list[str] | None) -> None:
        super().__init__(name=name)
        if layers == []:
            raise ValueError("strategy.layers=[]: must name at least one layer (null: all linear ones)")
        self._rank, self._alpha, self._only = rank, alpha, layers

    def attach(self, model: nn.Module) -> None:
        layers = chosen_layers(linear_layers(model), self._only)
        if any(isinstance(module, LowRank) for module in model.modules()):
            raise ValueError(f"strategy={self.name}: the model has low-rank updates already")
        # Freeze before the updates are added, which stay trainable.
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.weights = [weight_of(layer) for layer in layers]
        self.updates = [LowRank(weight, rank=self._rank, alpha=self._alpha) for weight in self.weights]
        for layer, update in zip(layers, self.updates, strict=True):
            # As a part of the layer, so that optimizer, devices and checkpoints see its parameters.
            layer.add_module("lora", update)
            layer.register_forward_hook(_add)

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._stream = stream
        self.start(engine, 0)

    @torch.no_grad()
    def start(self, engine: Engine, *place: int) -> None:
        """Begin new updates; their random numbers belong to this place in the stream."""
        random = generator(self._stream, *place)
        for update in self.updates:
            update.start(random)
        self.forget(engine)

    def forget(self, engine: Engine) -> None:
        """Drop the optimizer's moments: they belong to other updates."""
        for update in self.updates:
            for parameter in update.parameters():
                engine.optimizer.state.pop(parameter, None)

    @torch.no_grad()
    def size(self) -> float:
        """Return |updates| / |W0|."""
        # Over all layers together: an adapter may start some of its own weights at zero.
        deltas = torch.stack([update.delta().norm() for update in self.updates])
        return float(deltas.norm() / torch.stack([weight.norm() for weight in self.weights]).norm())

    def terms(self) -> dict[str, float]:
        return {"update": self.size()}


def _add(layer: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    # Looked up by name, not closed over: a copy of the model has a copy of the update.
    update: Any = layer.lora
    changed: Tensor = out + update(args[0])
    return changed


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of a model by name, those with fast weights included."""
    # Imported here: it brings all that fast weights need.
    from ttt.adapters.fast_down import FastDown

    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | FastDown)}


def chosen_layers(layers: dict[str, nn.Module], only: list[str] | None) -> list[nn.Module]:
    """Return the layers that have one of the words in their dotted name; None: all of them.

    Raises ValueError for a word that is in no name.
    """
    if not layers:
        raise ValueError("strategy.layers=null: the model has no linear layers")
    if only is None:
        return list(layers.values())
    for word in only:
        if not any(_has_part(name, word) for name in layers):
            parts = {part for name in layers for part in name.split(".") if not part.isdigit()}
            raise ValueError(f"strategy.layers={show(only)}: no linear layer is in {word}; {suggest(word, parts)}")
    return [layer for name, layer in layers.items() if any(_has_part(name, word) for word in only)]


def _has_part(name: str, word: str) -> bool:
    """Is `word` one or several whole parts of a dotted name?"""
    return f".{word}." in f".{name}."


def weight_of(layer: nn.Module) -> nn.Parameter:
    """Return the matrix of a linear layer."""
    assert isinstance(layer.weight, nn.Parameter)
    return layer.weight
