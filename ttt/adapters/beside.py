"""Memories beside attention: a layer of their own, whose output is added to what attention gives.

    y = attention(x) + W_o rms_norm(memory read at W_q x', written with W_k x', W_v x', ...)

x' is x after a short causal convolution (its start: x itself), in heads. W_o starts at zero, so a model
with a new memory equals its base. The rules - how memories are written and read - are one file each.
Shapes: B batch (lanes), T time, H heads, K head width, D model width, O taps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import OPEN, Desk, FastState, Lifetime, Pass
from ttt.models.cache import Cache
from ttt.stream import Batch


class Rule(Protocol):
    """One memory rule, a module with what it learns (step sizes, gates, what a memory starts as)."""

    def initial(self) -> FastState:
        """What was written before anything was: zeros, [1, H, ...], by the rule's own names."""
        ...

    def recall(self, q_BTHK: Tensor, state: FastState) -> Tensor:
        """Read without writing, [B, T, H, K]."""
        ...

    def run(
        self, x_BTD: Tensor, *, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor, state: FastState, now: Pass
    ) -> tuple[Tensor, FastState]:
        """Write and read, [B, T, H, K]; the state after, with what an open chunk needs under OPEN names."""
        ...


class BesideAttention:
    """The adapter of a rule: puts one layer beside the attention of every block, and runs the passes."""

    def __init__(
        self,
        *,
        name: str,
        chunk: int,
        lifetime: Lifetime,
        layers: list[int] | None,
        heads: int,
        taps: int,
        new_rule: Callable[[int], nn.Module],
    ) -> None:
        if heads < 1:
            raise ValueError(f"adapter.heads={heads}: must be at least 1")
        if taps < 1:
            raise ValueError(f"adapter.taps={taps}: must be at least 1 (1: no convolution)")
        self.name, self.reset = name, lifetime.reset
        self._lifetime, self._only, self._heads, self._taps = lifetime, layers, heads, taps
        self._new_rule = new_rule
        self._desk = Desk(chunk=chunk, lifetime=lifetime, thin=True)
        self._layers: dict[str, BesideLayer] = {}

    def attach(self, model: nn.Module) -> None:
        width = model.get_input_embeddings().embedding_dim  # type: ignore[operator]
        if width % self._heads:
            raise ValueError(f"adapter.heads={self._heads}: must divide the model's width, {width}")
        found = [(name, module) for name, module in model.named_modules() if name.endswith("self_attn")]
        for index in range(len(found)) if self._only is None else self._only:
            if not 0 <= index < len(found):
                raise ValueError(f"adapter.layers={self._only}: layer {index} is not one of 0 .. {len(found) - 1}")
            name, attention = found[index]
            rule = self._new_rule(width // self._heads)
            layer = BesideLayer(width, name=name, desk=self._desk, heads=self._heads, taps=self._taps, rule=rule)
            attention.add_module("memory", layer)
            attention.register_forward_hook(partial(_add, layer), with_kwargs=True)
            self._layers[name] = layer
        if not self._layers:
            raise ValueError(f"adapter={self.name}: the model has no attention (no module named self_attn)")

    def initial(self) -> FastState:
        state = {}
        for name, layer in self._layers.items():
            state |= {f"{name}.{key}": x for key, x in layer.rule.initial().items()}
        return state

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        with self._desk.reading(batch, state, write=write, streaming=cache is not None) as now:
            logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        return logits_BTV, now.after

    def carry(self, state: FastState) -> FastState:
        return self._lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """The norm of all that was written in each layer, a lane, per head."""
        numbers = {}
        for name in self._layers:
            own = [x for key, x in state.items() if key.startswith(f"{name}.")]
            squares = [x.square().flatten(2).sum(2).mean() for x in own if x.dim() > 2]
            numbers[f"{name}.state_norm"] = float(sum(squares, torch.zeros(())).sqrt())
        return numbers


def _add(layer: BesideLayer, attention: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any], out: Any) -> Any:
    """The forward hook: Hugging Face's attention takes its input by name and returns a tuple."""
    y_BTD = layer(args[0] if args else named["hidden_states"])
    return (out[0] + y_BTD, *out[1:]) if isinstance(out, tuple) else out + y_BTD


class BesideLayer(nn.Module):
    def __init__(self, width: int, *, name: str, desk: Desk, heads: int, taps: int, rule: nn.Module) -> None:
        super().__init__()
        self._name, self._desk, self._heads = name, desk, heads
        self.rule: Any = rule
        conv_OD = torch.zeros(taps, width)
        conv_OD[0] = 1.0
        self.conv_OD = nn.Parameter(conv_OD)
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        nn.init.normal_(self.qkv_proj.weight, std=width**-0.5)
        self.norm = nn.RMSNorm(width // heads)
        self.out_proj = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        now = self._desk.now
        state = now.state(self._name)
        x_BTD, open_ = self._convolve(x_BTD, now, state)
        q_BTHK, k_BTHK, v_BTHK = self.qkv_proj(x_BTD).unflatten(-1, (3, self._heads, -1)).unbind(2)
        if now.write:
            o_BTHK, after = self.rule.run(x_BTD, q_BTHK=q_BTHK, k_BTHK=k_BTHK, v_BTHK=v_BTHK, state=state, now=now)
        else:
            o_BTHK, after = self.rule.recall(q_BTHK, state), state
        now.leave(self._name, after | open_)
        return self.out_proj(self.norm(o_BTHK.to(x_BTD.dtype)).flatten(2))

    def _convolve(self, x_BTD: Tensor, now: Pass, state: FastState) -> tuple[Tensor, FastState]:
        """sum over o of w_o x_{t-o}, inside the document; and the inputs that the next piece looks back on."""
        back = len(self.conv_OD) - 1
        weight_OD = self.conv_OD.to(x_BTD.dtype)
        if not now.streaming and now.grid.slot_BT is None:
            sum_BTD = weight_OD[0] * x_BTD
            for o in range(1, back + 1):
                sum_BTD = torch.addcmul(sum_BTD, F.pad(x_BTD, (0, 0, o, -o)), weight_OD[o])
            return sum_BTD, {}
        lanes = x_BTD.shape[0]
        old_BOD = state.get(f"{OPEN}input", x_BTD.new_zeros(1, back, x_BTD.shape[2])).expand(lanes, -1, -1)
        nobody_BO = torch.full((1, back), -1, device=x_BTD.device)
        segment_BA = torch.cat([state.get(f"{OPEN}input_segment", nobody_BO).expand(lanes, -1), now.segment_BT], 1)
        x_BAD = torch.cat([old_BOD.to(x_BTD.dtype), x_BTD], 1)
        # Padding is nobody's past: positions among the real tokens, the newest last.
        order_BA = (segment_BA >= 0).long().argsort(dim=1, stable=True)
        rank_BA = order_BA.argsort(dim=1)
        sorted_BAD, sorted_BA = x_BAD.gather(1, order_BA[..., None].expand_as(x_BAD)), segment_BA.gather(1, order_BA)
        sum_BAD = weight_OD[0] * sorted_BAD
        for o in range(1, back + 1):
            same_BA1 = (F.pad(sorted_BA, (o, -o), value=-1) == sorted_BA)[..., None]
            sum_BAD = torch.addcmul(sum_BAD, F.pad(sorted_BAD, (0, 0, o, -o)) * same_BA1, weight_OD[o])
        length = sorted_BA.shape[1]
        open_ = {f"{OPEN}input": sorted_BAD[:, length - back :], f"{OPEN}input_segment": sorted_BA[:, length - back :]}
        sum_BAD = sum_BAD.gather(1, rank_BA[..., None].expand_as(sum_BAD))
        return sum_BAD[:, back:], open_


def into_lanes(x_BNCHX: Tensor) -> Tensor:
    """[B, ..., H, X] -> [B * H, ..., X]: heads are lanes to the kernels."""
    return x_BNCHX.movedim(-2, 1).flatten(0, 1)


def out_of_lanes(x: Tensor, heads: int) -> Tensor:
    """The inverse of `into_lanes`."""
    return x.unflatten(0, (-1, heads)).movedim(1, -2)


def unit(x: Tensor) -> Tensor:
    """Keys and queries of length one, in fp32."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
