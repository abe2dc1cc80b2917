"""`wide`: no fast weights, but what they cost: every MLP has more hidden units.

    y = MLP(x) + MLP'(x)        MLP': of the same kind, with `width` hidden units, and zero at first

The sum is one MLP with `width` more hidden units, so a base that is trained with it is a wider
model. It is the control for size: is the gain of fast weights more than that of as many parameters,
or as many operations, spent on slow ones?
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ttt.adapters.base import Adapter, FastState
from ttt.adapters.footing import Footing, match
from ttt.adapters.none import NoAdapter
from ttt.models.gated import GatedMlp, gated_mlps


class Wide(NoAdapter):
    """Read as the plain model is. Arguments are explained in conf/adapter/wide.yaml."""

    def __init__(
        self,
        *,
        name: str,
        seq_len: Annotated[int, Ge(2)],
        width: Annotated[int, Ge(1)] | None,
        equal: Literal["parameters", "flops"] | None,
        like: Adapter | None,
    ) -> None:
        if width is None and (equal is None or like is None):
            raise ValueError("adapter.width=null: must be a number, without adapter.equal or adapter.like")
        if width is not None and equal is not None:
            raise ValueError(f"adapter.width={width}: follows from adapter.equal={equal}; use adapter.equal=null")
        super().__init__(name=name)
        self._seq_len = seq_len
        self._width, self._equal, self._like = width, equal, like
        self._footing: Footing | None = None
        self._mlps = 0

    def attach(self, model: nn.Module) -> None:
        """Widen every gated MLP. Raises ValueError for a model without one."""
        self._mlps = len(gated_mlps(model))
        if not self._mlps:
            raise ValueError(f"adapter={self.name}: the model has no gated MLP")
        if self._equal is not None and self._like is not None:
            self._footing = match(model, self._like, equal=self._equal, widen=widen, length=self._seq_len)
            self._width = self._footing.width
        assert self._width is not None, "the constructor saw to it"
        widen(model, self._width)

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        words = f"the plain model, each of {self._mlps} MLPs wider by {self._width}"
        return words if self._footing is None else f"{words}; {self._footing.line()}"

    def diagnostics(self, state: FastState) -> dict[str, float]:
        return {"width": float(self._width or 0)}


def widen(model: nn.Module, width: int) -> None:
    """Add `width` hidden units to every gated MLP of `model`; their output is zero at first."""
    for mlp in gated_mlps(model):
        more = more_units(mlp, width)
        # As a submodule its parameters are saved and trained with the model.
        mlp.module.add_module("wide", more)
        mlp.module.register_forward_hook(partial(_add, more))


def _add(more: nn.Module, mlp: nn.Module, args: tuple[Any, ...], out_BTD: Tensor) -> Tensor:
    return out_BTD + more(args[0])


def more_units(mlp: GatedMlp, width: int) -> nn.Module:
    """An MLP like `mlp`, its activation included, with `width` hidden units and no output yet."""
    more = copy.deepcopy(mlp.module)
    down = mlp.down
    assert isinstance(down, nn.Linear), "no other adapter is attached"
    for name, linear in mlp.into.items():
        # Gate and up may be one matrix, which has two rows for each unit.
        rows = width * (linear.out_features // down.in_features)
        setattr(more, name, _linear_like(linear, linear.in_features, rows))
    last = _linear_like(down, width, down.out_features)
    nn.init.zeros_(last.weight)
    setattr(more, mlp.down_name, last)
    return more


def _linear_like(linear: nn.Linear, inputs: int, outputs: int) -> nn.Linear:
    """A layer of another size with random weights of the same spread, and biases of zero."""
    layer = nn.Linear(inputs, outputs, bias=linear.bias is not None, device=linear.weight.device)
    nn.init.normal_(layer.weight, std=float(linear.weight.detach().float().std()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
