"""Memories beside attention: a layer of their own, whose output is added to that of attention.

    y = attention(x) + W_o rms_norm(memory read at q, written with k, v, ...)
    q, k, v = conv(W x), split into heads

W_o starts at zero, so a model with a new memory equals its base. How a memory is written and read
is its rule: one file per rule, and one adapter per rule.
Shapes: B batch (lanes), T time, H heads, K head width, D model width, Q = 3 D, O taps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import FastState, Lifetime, RunsOn
from ttt.adapters.layers import LayerChoice, pick_layers
from ttt.adapters.reading import Desk, Pass, span_of
from ttt.adapters.short_conv import short_conv
from ttt.models.cache import Cache
from ttt.stream import Batch

# The read-out of an almost empty memory is close to zero. Without a floor under its mean square,
# the norm would blow it up to length one, rounding errors included: torch's default floor is the
# machine epsilon, so that fp32 and fp64 would compute different models.
NORM_EPS = 1e-5


class Rule(Protocol):
    """A memory rule: a module that holds what it learns (step sizes, gates, the memory's start)."""

    def initial(self) -> FastState:
        """The state before anything is written: zeros [1, H, ...], by the rule's own names."""
        ...

    def recall(self, q_BTHK: Tensor, state: FastState) -> Tensor:
        """Read without writing, [B, T, H, K]."""
        ...

    def run(
        self, x_BTD: Tensor, *, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor, state: FastState, now: Pass
    ) -> tuple[Tensor, FastState]:
        """Write and read, [B, T, H, K]; and the state after, an open chunk's under OPEN names."""
        ...


class BesideAttention:
    """The adapter of a rule: puts one layer beside each block's attention, and runs the passes."""

    runs_on: RunsOn = "any"
    passes_logits = True

    def __init__(
        self,
        *,
        name: str,
        chunk: int,
        lifetime: Lifetime,
        layers: LayerChoice,
        heads: int,
        taps: int,
        new_rule: Callable[[int], nn.Module],
        executor: str,
    ) -> None:
        self.name, self.reset = name, lifetime.reset
        self._only, self._heads, self._taps = layers, heads, taps
        self._new_rule, self._executor = new_rule, executor
        # Thin: rules keep an open chunk in their state, so that decoding one token needs one cell
        # of the grid instead of a whole chunk.
        self._desk = Desk(chunk=chunk, lifetime=lifetime, thin=True)
        self._layers: dict[str, BesideLayer] = {}

    def attach(self, model: nn.Module) -> None:
        width = model.get_input_embeddings().embedding_dim  # type: ignore[operator]
        if width % self._heads:
            raise ValueError(f"adapter.heads={self._heads}: must divide the model's width, {width}")
        attentions = [(name, module) for name, module in model.named_modules() if name.endswith("self_attn")]
        for name, attention in pick_layers(attentions, self._only):
            rule = self._new_rule(width // self._heads)
            layer = BesideLayer(width, name=name, desk=self._desk, heads=self._heads, taps=self._taps, rule=rule)
            # As a submodule the memory's parameters are saved and trained with the model.
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
        streaming, span = cache is not None, span_of(cache)
        with self._desk.reading(batch, state, write=write, streaming=streaming, span=span) as now:
            logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        return logits_BTV, now.after

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        return self._executor

    def carry(self, state: FastState) -> FastState:
        return self._desk.lifetime.next(state)

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """The norm of each layer's state, as the root mean square over lanes and heads."""
        numbers = {}
        for name in self._layers:
            tensors = [x for key, x in state.items() if key.startswith(f"{name}.")]
            # Per head, [L, H, ...]: tensors of two dimensions are counts.
            squares = [x.square().flatten(2).sum(2).mean() for x in tensors if x.dim() > 2]
            numbers[f"{name}.state_norm"] = float(sum(squares, torch.zeros(())).sqrt())
        return numbers


def _add(layer: BesideLayer, attention: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any], out: Any) -> Any:
    """The forward hook: Hugging Face's attention takes its input by name and returns a tuple."""
    y_BTD = layer(args[0] if args else named["hidden_states"])
    return (out[0] + y_BTD, *out[1:]) if isinstance(out, tuple) else out + y_BTD


class BesideLayer(nn.Module):
    """Projections, convolution, rule and read-out of the memory beside one block's attention."""

    def __init__(self, width: int, *, name: str, desk: Desk, heads: int, taps: int, rule: nn.Module) -> None:
        super().__init__()
        self._name, self._desk, self._heads = name, desk, heads
        # Any: nn.Module's attributes are Tensor or Module to a type checker, never a protocol.
        self.rule: Any = rule
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        nn.init.normal_(self.qkv_proj.weight, std=width**-0.5)
        # Lag 0 passes and earlier tokens mix in at random: from there a key soon learns to depend
        # on the previous token, which associative recall needs.
        conv_OQ = torch.empty(taps, 3 * width).uniform_(-(taps**-0.5), taps**-0.5)
        conv_OQ[0] = 1.0
        self.conv_OQ = nn.Parameter(conv_OQ)
        self.norm = nn.RMSNorm(width // heads, eps=NORM_EPS)
        self.out_proj = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out_proj.weight)

    def forward(self, x_BTD: Tensor) -> Tensor:
        now = self._desk.now
        state = now.state(self._name)
        qkv_BTQ, rest = short_conv(self.qkv_proj(x_BTD), self.conv_OQ, now, state)
        q_BTHK, k_BTHK, v_BTHK = qkv_BTQ.unflatten(-1, (3, self._heads, -1)).unbind(2)
        if now.write:
            o_BTHK, after = self.rule.run(x_BTD, q_BTHK=q_BTHK, k_BTHK=k_BTHK, v_BTHK=v_BTHK, state=state, now=now)
        else:
            o_BTHK, after = self.rule.recall(q_BTHK, state), state
        now.leave(self._name, after | rest)
        now.hand_on(self._name)
        return self.out_proj(self.norm(o_BTHK.to(x_BTD.dtype)).flatten(2))


def unit(x: Tensor) -> Tensor:
    """Keys and queries of length one, in fp32: under autocast they arrive in bf16."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
