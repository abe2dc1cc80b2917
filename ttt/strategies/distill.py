"""`distill`: the slow weights alone learn to answer as they do together with the fast ones.

    loss = data + c * T^2 KL(softmax(z_fast / T) || softmax(z_slow / T))

z_fast: logits of the model that writes its fast weights as it reads, cut off from the graph;
z_slow: logits for the same rows, read from the initial fast state without a write. So what fast
weights take up in a sequence moves into slow ones, as in complementary learning systems (McClelland
et al. 1995); the term is that of Hinton et al. 2015 (arXiv 1503.02531). Memory: none. Cost of a
step: one more forward and backward pass; it does not grow with the number of tasks.
"""

from __future__ import annotations

from torch import Tensor

from ttt.learner import Learner
from ttt.models.units import unheard
from ttt.strategies.teacher import Distilling
from ttt.stream import IGNORE, Batch, Stream


class Distill(Distilling):
    """Arguments are explained in conf/strategy/distill.yaml."""

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        adapter = learner.adapter
        if not adapter.initial():
            raise ValueError(
                f"adapter={adapter.name}: has no fast weights that strategy={self.name} could learn from; use another "
                "adapter, such as mlp_fast"
            )

    def extra(self, learner: Learner, batch: Batch, logits_BTV: Tensor, *, own: int) -> Tensor | None:
        batch = batch.rows(0, own)
        # Strategies that watch hidden units judge them by the pass of the batch alone.
        with unheard():
            slow_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
        scored_BT = batch.targets_BT != IGNORE
        heads = None
        if batch.outputs_BV is not None:
            # Each token has one head, the outputs that compete in its row: [N, 1, V].
            heads = batch.outputs_BV[:, None].expand_as(slow_BTV)[scored_BT][:, None]
        return self.penalised(logits_BTV[:own][scored_BT], slow_BTV[scored_BT], heads_HV=heads)
