"""Memories beside attention: a layer of their own, whose output is added to what attention gives.

    y = attention(x) + W_o rms_norm(memory read at q, written with k, v, ...)       q, k, v = conv(W x), in heads

conv is a short causal convolution, each channel its own, inside the document. W_o starts at zero, so a
model with a new memory equals its base. The rules - how memories are written and read - are one file each.
Shapes: B batch (lanes), T time, H heads, K head width, D model width, Q = 3 D, O taps, A earlier and new tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import OPEN, FastState, Lifetime
from ttt.adapters.layers import pick_layers
from ttt.adapters.reading import Desk, Pass
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
        executor: str,
    ) -> None:
        if heads < 1:
            raise ValueError(f"adapter.heads={heads}: must be at least 1")
        if taps < 1:
            raise ValueError(f"adapter.taps={taps}: must be at least 1 (1: no convolution)")
        self.name, self.reset = name, lifetime.reset
        self._only, self._heads, self._taps = layers, heads, taps
        self._new_rule, self._executor = new_rule, executor
        self._desk = Desk(chunk=chunk, lifetime=lifetime, thin=True)
        self._layers: dict[str, BesideLayer] = {}

    def attach(self, model: nn.Module) -> None:
        width = model.get_input_embeddings().embedding_dim  # type: ignore[operator]
        if width % self._heads:
            raise ValueError(f"adapter.heads={self._heads}: must divide the model's width, {width}")
        found = [(name, module) for name, module in model.named_modules() if name.endswith("self_attn")]
        for name, attention in pick_layers(found, self._only):
            rule = self._new_rule(width // self._heads)
            layer = BesideLayer(width, name=name, desk=self._desk, heads=self._heads, taps=self._taps, rule=rule)
            attention.add_module("memory", layer)
            attention.register_forward_hook(partial(_add, layer), with_kwargs=True)
            self._layers[name] = layer
        if not self._layers:
            raise ValueError(f"adapter={self.name}: the model has no attention (no module named self_attn)")

    def initial(self) -> FastState:
        state: FastState = {}
        for name, layer in self._layers.items():
            state |= {f"{name}.{key}": x for key, x in layer.rule.initial().items()}
        return state

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        with self._desk.reading(batch, state, write=write, streaming=cache is not None) as now:
            logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        return logits_BTV, now.after

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return self._executor

    def carry(self, state: FastState) -> FastState:
        return self._desk.lifetime.next(state)

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
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        nn.init.normal_(self.qkv_proj.weight, std=width**-0.5)
        # Lag 0 passes, earlier tokens mix in at random: a key can soon be that of the token before.
        conv_OQ = torch.empty(taps, 3 * width).uniform_(-(taps**-0.5), taps**-0.5)
        conv_OQ[0] = 1.0
        self.conv_OQ = nn.Parameter(conv_OQ)
        self.norm = nn.RMSNorm(width // heads)
        self.out_proj = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        now = self._desk.now
        state = now.state(self._name)
        qkv_BTQ, open_ = self._convolve(self.qkv_proj(x_BTD), now, state)
        q_BTHK, k_BTHK, v_BTHK = qkv_BTQ.unflatten(-1, (3, self._heads, -1)).unbind(2)
        if now.write:
            o_BTHK, after = self.rule.run(x_BTD, q_BTHK=q_BTHK, k_BTHK=k_BTHK, v_BTHK=v_BTHK, state=state, now=now)
        else:
            o_BTHK, after = self.rule.recall(q_BTHK, state), state
        now.leave(self._name, after | open_)
        return self.out_proj(self.norm(o_BTHK.to(x_BTD.dtype)).flatten(2))

    def _convolve(self, x_BTQ: Tensor, now: Pass, state: FastState) -> tuple[Tensor, FastState]:
        """sum over o of w_o x_{t-o}, inside the document; and the inputs that the next piece looks back on."""
        back = len(self.conv_OQ) - 1
        weight_OQ = self.conv_OQ.to(x_BTQ.dtype)
        if not now.streaming and now.grid.slot_BT is None:
            sum_BTQ = weight_OQ[0] * x_BTQ
            for o in range(1, back + 1):
                sum_BTQ = torch.addcmul(sum_BTQ, F.pad(x_BTQ, (0, 0, o, -o)), weight_OQ[o])
            return sum_BTQ, {}
        lanes = x_BTQ.shape[0]
        old_BOQ = state.get(f"{OPEN}input", x_BTQ.new_zeros(1, back, x_BTQ.shape[2])).expand(lanes, -1, -1)
        nobody_BO = torch.full((1, back), -1, device=x_BTQ.device)
        segment_BA = torch.cat([state.get(f"{OPEN}input_segment", nobody_BO).expand(lanes, -1), now.segment_BT], 1)
        x_BAQ = torch.cat([old_BOQ.to(x_BTQ.dtype), x_BTQ], 1)
        # Padding is nobody's past: positions among the real tokens, the newest last.
        order_BA = (segment_BA >= 0).long().argsort(dim=1, stable=True)
        rank_BA = order_BA.argsort(dim=1)
        sorted_BAQ, sorted_BA = x_BAQ.gather(1, order_BA[..., None].expand_as(x_BAQ)), segment_BA.gather(1, order_BA)
        sum_BAQ = weight_OQ[0] * sorted_BAQ
        for o in range(1, back + 1):
            same_BA1 = (F.pad(sorted_BA, (o, -o), value=-1) == sorted_BA)[..., None]
            sum_BAQ = torch.addcmul(sum_BAQ, F.pad(sorted_BAQ, (0, 0, o, -o)) * same_BA1, weight_OQ[o])
        length = sorted_BA.shape[1]
        open_ = {f"{OPEN}input": sorted_BAQ[:, length - back :], f"{OPEN}input_segment": sorted_BA[:, length - back :]}
        sum_BAQ = sum_BAQ.gather(1, rank_BA[..., None].expand_as(sum_BAQ))
        return sum_BAQ[:, back:], open_


def into_lanes(x_BNCHX: Tensor) -> Tensor:
    """[B, ..., H, X] -> [B * H, ..., X]: heads are lanes to the kernels."""
    return x_BNCHX.movedim(-2, 1).flatten(0, 1)


def out_of_lanes(x: Tensor, heads: int) -> Tensor:
    """The inverse of `into_lanes`."""
    return x.unflatten(0, (-1, heads)).movedim(1, -2)


def unit(x: Tensor) -> Tensor:
    """Keys and queries of length one, in fp32."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
