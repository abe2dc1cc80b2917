"""`olora`: one low-rank update after another, each learned where the earlier ones do not reach.

    o = (W0 + s sum_(i<t) B_i A_i) x + s B_t A_t x        s = alpha / r
    loss = data + c * sum_(i<t) |A_i A_t^T|_1

O-LoRA (Wang et al. 2023, arXiv 2310.14152): earlier updates are frozen and the rows of A_t pushed
apart from theirs, by the sum of absolute products as in the released code (the paper squares them).
No task identity is needed: updates add up, and a finished one is added to the frozen W0.
Memory: r I numbers a layer for each task. Cost: that of one update a step, and the products with
all earlier A, 4 t r^2 I operations a layer. Both grow with the number of tasks; the products are
lost in the cost of the model while t r is below the rows of a batch.

Shapes: R rank, X rows of all earlier A, I inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.lora import Alpha, LowRankUpdates
from ttt.strategies.shared import AtLeastOne, Coefficient, check_tasks, list_from_state, list_state
from ttt.stream import Stream


class OLora(LowRankUpdates):
    """Arguments are explained in conf/strategy/olora.yaml."""

    renews = True

    def __init__(
        self,
        *,
        name: str,
        coefficient: Coefficient,
        rank: AtLeastOne,
        alpha: Alpha,
        layers: list[str] | None,
    ) -> None:
        super().__init__(name=name, rank=rank, alpha=alpha, layers=layers)
        self._coefficient = coefficient
        # The rows of all earlier A of each layer, [t r, I]; empty until the first task has ended.
        self._earlier: list[Tensor] = []

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)

    @torch.no_grad()
    def gradients(self, engine: Engine) -> None:
        # Not strict: in the first task there are no earlier rows.
        for update, earlier_XI in zip(self.updates, self._earlier, strict=False):
            assert update.a_RI.grad is not None
            # The gradient of |x| is the sign of x; at 0, where it has none, it pulls nowhere.
            # So the gradient of sum |A_t A^T| is sign(A_t A^T) A, with A the rows of earlier tasks.
            sign_RX = (update.a_RI @ earlier_XI.T).sign()
            update.a_RI.grad.addmm_(sign_RX, earlier_XI, alpha=self._coefficient)

    @torch.no_grad()
    def end_task(self, engine: Engine, index: int) -> None:
        rows = [update.a_RI.detach().clone() for update in self.updates]
        for weight, update in zip(self.weights, self.updates, strict=True):
            # The layer computes the same before and after: the next update starts at zero.
            weight.add_(update.delta())
        pairs = zip(self._earlier, rows, strict=True)
        self._earlier = [torch.cat(pair) for pair in pairs] if self._earlier else rows
        # Place 0 is that of `begin`.
        self.start(engine, index + 1)

    @torch.no_grad()
    def penalty(self) -> float:
        """Return the penalty at the present weights, in nats."""
        overlaps = [
            (update.a_RI @ earlier_XI.T).abs().sum()
            for update, earlier_XI in zip(self.updates, self._earlier, strict=False)
        ]
        return self._coefficient * float(torch.stack(overlaps).sum()) if overlaps else 0.0

    def terms(self) -> dict[str, float]:
        return {"penalty": self.penalty()} | super().terms()

    def state(self) -> dict[str, Tensor]:
        return list_state("earlier", self._earlier)

    def restore(self, state: dict[str, Tensor]) -> None:
        self._earlier = list_from_state("earlier", state, like=self.weights)
