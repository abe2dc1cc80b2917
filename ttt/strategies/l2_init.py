"""`l2_init`: stay near the weights at the start of the stream, where learning was easy.

    loss = data + c * |theta - theta_0|^2

Regenerative regularisation (Kumar, Marklund, Van Roy 2023, arXiv 2308.11958). Memory: one number a
weight. Cost: one pass over the weights a step. Neither depends on tasks, which need not be
announced.
"""

from __future__ import annotations

from ttt.learner import Engine
from ttt.strategies.quadratic import Quadratic
from ttt.stream import Stream


class L2Init(Quadratic):
    """Arguments are explained in conf/strategy/l2_init.yaml."""

    def begin(self, engine: Engine, stream: Stream) -> None:
        super().begin(engine, stream)
        self.pull()
