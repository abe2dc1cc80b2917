"""Hidden units: what goes into each, what comes out. For whoever watches or replaces them.

    gated MLP     h = silu(gate x) * (up x)      into unit f: rows f of gate and up     out of it: column f of down
    plain MLP     h = act(W x + b)               into unit f: row f of W and b          out of it: column f of the next

Shapes: N tokens, F units of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Units:
    """One layer of hidden units. `incoming`: linear layers whose rows feed them; `outgoing`: a module that reads them,
    its `weight` with a column for each."""

    name: str
    incoming: Sequence[nn.Linear]
    outgoing: nn.Module

    @property
    def weight_out(self) -> Tensor:
        weight = self.outgoing.weight
        assert isinstance(weight, Tensor)
        return weight


@runtime_checkable
class HasUnits(Protocol):
    """A model that says itself which its hidden units are; others are searched for gated MLPs."""

    def units(self) -> Sequence[Units]: ...


def hidden_units(model: nn.Module) -> list[Units]:
    """Layer by layer in order of depth; empty for a model without hidden units that we know."""
    if isinstance(model, HasUnits):
        return list(model.units())
    found = []
    for name, module in model.named_modules():
        into = [getattr(module, part, None) for part in ("gate_proj", "up_proj")]
        down = getattr(module, "down_proj", None)
        if down is not None and all(isinstance(layer, nn.Linear) for layer in into):
            found.append(Units(name, [layer for layer in into if isinstance(layer, nn.Linear)], down))
    return found


@contextmanager
def listening(layers: Sequence[Units]) -> Iterator[dict[str, Tensor]]:
    """While open, what the units of each layer last gave, [N, F], by the layer's name; no part of the graph."""
    heard, handles = hear(layers, when=lambda module: True)
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


# Is this a pass beside that of the batch?
_BESIDE = ContextVar("beside", default=False)


@contextmanager
def unheard() -> Iterator[None]:
    """A pass that has gradients and is not that of the batch: `hear_training` stops its ears."""
    token = _BESIDE.set(True)
    try:
        yield
    finally:
        _BESIDE.reset(token)


def hear_training(layers: Sequence[Units]) -> dict[str, Tensor]:
    """The same for good, in passes that are learned from: no evaluation, no copy of the model, no pass of a teacher."""
    own = {id(layer.outgoing) for layer in layers}

    def learned_from(module: nn.Module) -> bool:
        return module.training and torch.is_grad_enabled() and id(module) in own and not _BESIDE.get()

    return hear(layers, when=learned_from)[0]


def hear(
    layers: Sequence[Units], *, when: Callable[[nn.Module], bool]
) -> tuple[dict[str, Tensor], list[RemovableHandle]]:
    """Where `listening` finds what it hears, and how to stop."""
    heard: dict[str, Tensor] = {}

    def listener(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if when(module):
                heard[name] = args[0].detach().flatten(0, -2)

        return hook

    return heard, [layer.outgoing.register_forward_pre_hook(listener(layer.name)) for layer in layers]
