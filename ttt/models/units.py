"""The hidden units of a model, for code that watches or replaces them.

                                                feeds unit f             reads unit f
    gated MLP     h = silu(gate x) * (up x)     rows f of gate and up    column f of down
    plain MLP     h = act(W x + b)              row f of W and b         column f of the next layer

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

from ttt.models.gated import gated_mlps


@dataclass(frozen=True)
class Units:
    """One layer of hidden units.

    `incoming`: linear layers whose rows feed the units. `outgoing`: the module that reads them; its
    `weight` has a column for each unit.
    """

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
    """A model that names its hidden units itself; other models are searched for gated MLPs."""

    def units(self) -> Sequence[Units]: ...


def hidden_units(model: nn.Module) -> list[Units]:
    """Return the layers of hidden units in order of depth; an empty list where none is found."""
    if isinstance(model, HasUnits):
        return list(model.units())
    # Where gate and up are one matrix, a unit has two rows in it; nothing here is made for that.
    return [Units(mlp.name, list(mlp.into.values()), mlp.down) for mlp in gated_mlps(model) if len(mlp.into) == 2]


@contextmanager
def listening(layers: Sequence[Units]) -> Iterator[dict[str, Tensor]]:
    """While open, collect the latest activations [N, F] of each layer by its name, detached."""
    heard, handles = hear(layers, when=lambda module: True)
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


# Whether the current pass reads something else than the training batch. A context variable and not
# an argument: hooks get no arguments of ours, and threads must not see each other's value.
_BESIDE = ContextVar("beside", default=False)


@contextmanager
def unheard() -> Iterator[None]:
    """While open, the hooks of `hear_training` ignore forward passes (for example a teacher's)."""
    token = _BESIDE.set(True)
    try:
        yield
    finally:
        _BESIDE.reset(token)


def hear_training(layers: Sequence[Units]) -> dict[str, Tensor]:
    """Collect activations for good, but only in passes that the model learns from.

    Evaluation, copies of the model and passes under `unheard` are left out.
    """
    # A deep copy of the model carries the hooks along, but its modules have other identities.
    watched = {id(layer.outgoing) for layer in layers}

    def learned_from(module: nn.Module) -> bool:
        return module.training and torch.is_grad_enabled() and id(module) in watched and not _BESIDE.get()

    return hear(layers, when=learned_from)[0]


def hear(
    layers: Sequence[Units], *, when: Callable[[nn.Module], bool]
) -> tuple[dict[str, Tensor], list[RemovableHandle]]:
    """Register hooks that collect activations in passes for which `when(module)` holds.

    Return the dictionary that they fill, and the handles that remove them.
    """
    heard: dict[str, Tensor] = {}

    def listener(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if when(module):
                # Detached: who observes must not keep the graph alive.
                heard[name] = args[0].detach().flatten(0, -2)

        return hook

    # Before the outgoing module: its input is the activation after the nonlinearity and the gate.
    return heard, [layer.outgoing.register_forward_pre_hook(listener(layer.name)) for layer in layers]
