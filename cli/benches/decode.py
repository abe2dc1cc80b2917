"""Decoding a token: a reader beside a plain decoder whose keys and values lie in place.

Shapes: B lanes, T time, D model width, H heads, K head width, W window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.cli.benches.adapters import DATA
from ttt.cli.benches.assembled import assembly_of
from ttt.cli.benches.timing import Row, paired, ratio
from ttt.learner import Learner, Reader
from ttt.models.nano import Nano, rope_tables, rotate

BATCHES, LENGTH, PREFIX, DECODED = (1, 32), 256, 64, 64
SIDES = ("none", "mlp_fast")


def measure_decoding(*, rounds: int) -> Iterator[Row]:
    """Yield a row for each adapter and number of lanes: CPU time per token of the main job's model.

    `floor`: the plain model in bare torch; all sides of a number of lanes run in the same rounds.
    """
    learners = {side: decoded_learner(side) for side in SIDES}
    for batch in BATCHES:
        tokens_BT = torch.randint(256, (batch, PREFIX + DECODED), generator=torch.Generator().manual_seed(0))
        calls = {side: _reading(learner, tokens_BT) for side, learner in learners.items()}
        floor = PlainDecoder(_model(learners["none"]), lanes=batch)
        seconds = paired({"floor": _decoding(floor.read, tokens_BT), **calls}, rounds=rounds)
        for side in SIDES:
            over = ratio(seconds[side], seconds["floor"])
            yield {
                "adapter": side,
                "lanes": str(batch),
                "ms/token": median(seconds[side]) / DECODED * 1e3,
                "floor": median(seconds["floor"]) / DECODED * 1e3,
                "over floor": over.median,
                "least": over.low,
                "most": over.high,
                "over none": ratio(seconds[side], seconds["none"]).median,
            }


class PlainDecoder:
    """The decoder of nano as one would write it for this alone: no documents, no padding.

    The keys and values of the window lie in a ring that is allocated once.
    """

    def __init__(self, model: Nano, *, lanes: int) -> None:
        assert model.window is not None
        self._model, self._window, self._at = model, model.window, 0
        heads = model.embed_tokens.embedding_dim // model.head_width
        shape = (2, lanes, heads, self._window, model.head_width)
        self._rings = [torch.zeros(shape) for _ in model.layers]

    @torch.no_grad()
    def read(self, tokens_B1: Tensor) -> Tensor:
        """Next-token logits [B, 1, V]."""
        model = self._model
        x_B1D = model.embed_tokens(tokens_B1)
        rope = rope_tables(torch.tensor([self._at]), width=model.head_width, base=model.rope_base)
        slot, seen = self._at % self._window, min(self._at + 1, self._window)
        layers: Any = model.layers
        for layer, ring in zip(layers, self._rings, strict=True):
            attention, mlp = layer.self_attn, layer.mlp
            qkv_B1X = attention.qkv_proj(layer.input_layernorm(x_B1D))
            q, k, v = qkv_B1X.unflatten(-1, (3, attention.heads, -1)).transpose(1, 3).unbind(2)
            ring[0, :, :, slot], ring[1, :, :, slot] = rotate(k, rope)[:, :, 0], v[:, :, 0]
            out_BH1K = F.scaled_dot_product_attention(rotate(q, rope), ring[0, :, :, :seen], ring[1, :, :, :seen])
            x_B1D = x_B1D + attention.o_proj(out_BH1K.transpose(1, 2).flatten(2))
            x_B1D = x_B1D + mlp(layer.post_attention_layernorm(x_B1D))
        self._at += 1
        return F.linear(model.norm(x_B1D), model.embed_tokens.weight)


def decoded_learner(adapter: str) -> Learner:
    """The main job's model with an adapter, ready to read."""
    threads = f"trainer.threads={torch.get_num_threads()}"
    # In fp32, as a reader computes unless its user says otherwise.
    return assembly_of(*DATA, f"adapter={adapter}", f"task.seq_len={LENGTH}", threads).learner.eval()


def _model(learner: Learner) -> Nano:
    assert isinstance(learner.model, Nano)
    return learner.model


def _reading(learner: Learner, tokens_BT: Tensor) -> Callable[[], None]:
    reader = Reader(learner)
    reader.read(tokens_BT[:, :PREFIX])
    return _decoding(reader.read, tokens_BT)


def _decoding(read: Callable[[Tensor], Tensor], tokens_BT: Tensor) -> Callable[[], None]:
    """Return a call that reads DECODED tokens one by one."""

    def decode() -> None:
        for t in range(PREFIX, PREFIX + DECODED):
            read(tokens_BT[:, t : t + 1])

    return decode
