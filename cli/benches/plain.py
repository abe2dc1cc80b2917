"""The decoder of nano as one would write it for this alone: no documents, no padding, no settings.

Shapes: B lanes, T time, D model width, H heads, K head width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.models.nano import Nano, rope_tables, rotate


class PlainDecoder:
    """Reads a context at once, or nothing, and then token by token.

    Keys and values lie in a ring of `slots`, allocated once; by default as many as the window has.
    """

    def __init__(self, model: Nano, *, lanes: int, slots: int | None = None) -> None:
        self._model, self._at = model, 0
        slots = model.window if slots is None else slots
        assert slots is not None, "attention to all tokens needs a number of slots"
        assert model.window is None or slots <= model.window, "a slot is a token that is seen"
        self._slots = slots
        heads = model.embed_tokens.embedding_dim // model.head_width
        shape = (2, lanes, heads, slots, model.head_width)
        self._rings = [torch.zeros(shape) for _ in model.layers]

    @torch.no_grad()
    def read(self, tokens_BT: Tensor) -> Tensor:
        """Next-token logits of the last position, [B, V]."""
        model, length = self._model, tokens_BT.shape[1]
        assert length == 1 or (self._at == 0 and length <= self._slots), "only a first read has several tokens"
        rope = rope_tables(torch.arange(self._at, self._at + length), width=model.head_width, base=model.rope_base)
        x_BTD = model.embed_tokens(tokens_BT)
        layers: Any = model.layers
        for layer, ring in zip(layers, self._rings, strict=True):
            x_BTD = x_BTD + self._attend(layer.self_attn, ring, layer.input_layernorm(x_BTD), rope)
            x_BTD = x_BTD + layer.mlp(layer.post_attention_layernorm(x_BTD))
        self._at += length
        return F.linear(model.norm(x_BTD[:, -1]), model.embed_tokens.weight)

    def _attend(self, attention: Any, ring: Tensor, x_BTD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        length = x_BTD.shape[1]
        slot, seen = self._at % self._slots, min(self._at + length, self._slots)
        q, k, v = attention.qkv_proj(x_BTD).unflatten(-1, (3, attention.heads, -1)).transpose(1, 3).unbind(2)
        ring[0, :, :, slot : slot + length], ring[1, :, :, slot : slot + length] = rotate(k, rope), v
        keys, values = ring[0, :, :, :seen], ring[1, :, :, :seen]
        out_BHTK = F.scaled_dot_product_attention(rotate(q, rope), keys, values, is_causal=length > 1)
        out_BTD: Tensor = attention.o_proj(out_BHTK.transpose(1, 2).flatten(2))
        return out_BTD

    def continue_from(self, other: PlainDecoder, lane_B: Tensor) -> None:
        """Go on in lane i where lane `lane_B[i]` of another decoder stands."""
        self._at = other._at
        for ring, read in zip(self._rings, other._rings, strict=True):
            ring[:, :, :, : self._at] = read[:, lane_B, :, : self._at]

    def restart(self) -> None:
        self._at = 0
