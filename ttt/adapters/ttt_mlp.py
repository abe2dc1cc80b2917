"""`ttt_mlp`: a two-layer network per head, beside attention, that learns at every token to turn k into v.

    f(x; W) = x + LN(W2 gelu(W1 x + b1) + b2), written and read as in `ttt_linear`

TTT-MLP (arXiv 2407.04620); kernels/ttt_layer.py has the forms. Hidden layer: 4 K.
Shapes: K head width.
"""

from __future__ import annotations

from torch import nn

from ttt.adapters.base import Lifetime, Reset
from ttt.adapters.beside import BesideAttention
from ttt.adapters.ttt_linear import TTTRule, check


class TTTMlp(BesideAttention):
    """Arguments are explained in conf/adapter/ttt_mlp.yaml."""

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: int,
        reset: Reset,
        carry: str,
        layers: list[int] | None,
        heads: int,
        taps: int,
        step: float,
    ) -> None:
        check(chunk=chunk, seq_len=seq_len, step=step)

        def new_rule(width: int) -> nn.Module:
            shapes = {"w1": (4 * width, width), "b1": (4 * width,), "w2": (width, 4 * width), "b2": (width,)}
            return TTTRule(shapes, width=width, heads=heads, chunk=chunk, step=step)

        super().__init__(
            name=name, chunk=chunk, lifetime=Lifetime(reset, carry), layers=layers, heads=heads, taps=taps,
            new_rule=new_rule, executor=f"dual form, {chunk} tokens at a time, fp32",
        )  # fmt: skip
