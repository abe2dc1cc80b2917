"""`ttt_mlp`: a two-layer network per head, beside attention; each token trains it to turn k into v.

    f(x; W) = x + LN(W2 gelu(W1 x + b1) + b2), written and read as in `ttt_linear`

TTT-MLP (arXiv 2407.04620); kernels/ttt_layer/ computes it. The hidden layer is 4 K wide.
Shapes: K head width.
"""

from __future__ import annotations

from ttt.adapters.ttt_linear import TTTLinear


class TTTMlp(TTTLinear):
    """Arguments are explained in conf/adapter/ttt_mlp.yaml."""

    @staticmethod
    def shapes(width: int) -> dict[str, tuple[int, ...]]:
        return {"w1": (4 * width, width), "b1": (4 * width,), "w2": (width, 4 * width), "b2": (width,)}
