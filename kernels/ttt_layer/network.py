"""The networks of test-time training layers, and the state of a reader.

Weights: linear {w [B, K, K], b [B, K]}; MLP {w1 [B, F, K], b1 [B, F], w2 [B, K, F], b2 [B, K]}.
Shapes: B lanes times heads, K head width, F hidden width.
"""

from __future__ import annotations

from typing import NamedTuple

from ttt.kernels.states import Weights

# Of the layer norm.
EPS = 1e-6


class TTTState(NamedTuple):
    """The weights as the open chunk began (`start`), and with all writes so far (`running`).

    Gradients are taken at `start`.
    """

    start: Weights
    running: Weights


def layer_names(weights: Weights) -> list[tuple[str, str]]:
    """Return the names of weight and bias of each layer, first to last."""
    return [("w", "b")] if "w" in weights else [("w1", "b1"), ("w2", "b2")]
