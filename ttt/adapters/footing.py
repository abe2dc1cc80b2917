"""What an adapter costs, and the width at which wider MLPs cost the same.

Counted on copies of the model: all parameters, and the operations of matrix products (by the
formulas of torch.utils.flop_counter) in one training step, forward and backward, of one sequence.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ttt.adapters.base import Adapter
from ttt.adapters.none import NoAdapter
from ttt.stream import Batch

Unit = Literal["parameters", "flops"]


@dataclass(frozen=True)
class Expense:
    """Parameters, and FLOPs of a training step per token."""

    parameters: int
    flops: float

    def __sub__(self, other: Expense) -> Expense:
        return Expense(self.parameters - other.parameters, self.flops - other.flops)

    def of(self, unit: Unit) -> float:
        return self.parameters if unit == "parameters" else self.flops


@dataclass(frozen=True)
class Footing:
    """How near `width` hidden units more come to the adapter `like`: what each of them adds."""

    width: int
    like: str
    equal: Unit
    added: Expense
    wanted: Expense

    def line(self) -> str:
        """Both costs in words, and how far off the one is that was made equal."""
        off = f"{100 * (self.added.of(self.equal) / self.wanted.of(self.equal) - 1):+.1f} % {self.equal}"
        return (
            f"{self.added.parameters:,} parameters for {self.wanted.parameters:,} of {self.like}, and "
            f"{self.added.flops:,.0f} FLOPs per token in training for {self.wanted.flops:,.0f} ({off})"
        )


def match(
    model: nn.Module, like: Adapter, *, equal: Unit, widen: Callable[[nn.Module, int], None], length: int
) -> Footing:
    """The width at which `widen` adds to `model` what `like` does; `model` stays as it is.

    Raises ValueError where that is less than one hidden unit in each MLP.
    """
    # Attaching draws random numbers, and the run's own must not depend on what is counted here.
    with torch.random.fork_rng(devices=[]):
        plain = _cost(model, lambda copied: NoAdapter(name="none"), length=length)
        wanted = _cost(model, lambda copied: like, length=length) - plain
        per_unit = _wider(model, widen, 1, length=length) - plain
        width = round(wanted.of(equal) / per_unit.of(equal))
        if width < 1:
            raise ValueError(
                f"adapter.equal={equal}: adapter.like={like.name} adds {wanted.of(equal):,.0f}, and one hidden unit in "
                f"each MLP adds {per_unit.of(equal):,.0f}; use adapter=none, or another adapter.like"
            )
        return Footing(width, like.name, equal, _wider(model, widen, width, length=length) - plain, wanted)


def _wider(model: nn.Module, widen: Callable[[nn.Module, int], None], width: int, *, length: int) -> Expense:
    def plain(copied: nn.Module) -> Adapter:
        widen(copied, width)
        return NoAdapter(name="none")

    return _cost(model, plain, length=length)


def _cost(model: nn.Module, adapter_of: Callable[[nn.Module], Adapter], *, length: int) -> Expense:
    """What a copy of `model` costs with an adapter."""
    copied = copy.deepcopy(model)
    adapter = adapter_of(copied)
    adapter.attach(copied)
    words: int = copied.get_input_embeddings().num_embeddings  # type: ignore[operator]
    # Different tokens, so that nothing is skipped because it is alike.
    tokens_BT = torch.arange(length)[None] % words
    batch = Batch(tokens_BT, tokens_BT, torch.zeros_like(tokens_BT))
    with Flops() as counter:
        logits_BTV, _ = adapter.read(copied, batch, adapter.initial(), write=True)
        logits_BTV.float().logsumexp(-1).sum().backward()
    return Expense(sum(p.numel() for p in copied.parameters()), counter.flops / length)


class Flops(TorchDispatchMode):
    """Counts operations of matrix products.

    torch's own FlopCounterMode refuses gradients that are taken inside, and does not count products
    that are added in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _formula(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


@cache
def _formula(operator: Any) -> Callable[..., int] | None:
    """How many operations a call has, in place as many as else; None: it is no product."""
    formula: Callable[..., int] | None = flop_registry.get(operator)
    name = operator.__name__
    if formula is None and name.endswith("_") and not name.endswith("__"):
        formula = flop_registry.get(getattr(torch.ops.aten, name[:-1], None))
    return formula
