"""`agem`: a step never makes the loss on a memory batch worse, to first order.

    g . r < 0:  g <- g - (g . r / r . r) r
    g: gradient of the step, r: gradient of `rows` rows of earlier tasks

Averaged gradient episodic memory (Chaudhry et al. 2019, arXiv 1812.00420). Rows are stored and
drawn as in replay.py (the paper stores the last rows of each class); they are read from the initial
fast state and leave none behind. Memory: as replay, and one gradient. Cost of a step: one more
forward and backward pass over `rows` rows; unlike that of GEM it does not grow with the number of
tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.learner import Engine, cross_entropy, rooted
from ttt.models.units import unheard
from ttt.strategies.quadratic import gradients_of
from ttt.strategies.rehearsal import Balance, Rehearsal
from ttt.strategies.shared import AtLeastOne
from ttt.stream import Batch


class Agem(Rehearsal):
    """Arguments are explained in conf/strategy/agem.yaml."""

    needs_likelihood = True

    def __init__(self, *, name: str, size: AtLeastOne, rows: AtLeastOne | None, balance: Balance) -> None:
        super().__init__(name=name, size=size, rows=rows, balance=balance)
        self._steps, self._projected = 0, 0

    def begin_task(self, engine: Engine, index: int) -> None:
        super().begin_task(engine, index)
        # The share that is reported is that of the present task.
        self._steps = self._projected = 0

    def memory(self, batch: Batch, *, step: int) -> Batch | None:
        # Rows of earlier tasks do not join the batch: they only give a direction in `gradients`.
        self.see(batch)
        return None

    def gradients(self, engine: Engine) -> None:
        rows, learner = self.draw(), engine.learner
        if rows is None:
            return
        # autograd.grad raises for a frozen parameter.
        trained = [parameter for parameter in engine.order if parameter.requires_grad]
        with engine.fabric.autocast(), unheard():
            logits_BTV, _ = learner(rows, learner.adapter.initial())
            loss = rooted(cross_entropy(logits_BTV, rows, reduction="mean"), trained)
        # Not `backward`: that would add to the gradients of the step.
        reference = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
        self._steps += 1
        self._projected += project(gradients_of(trained), list(reference))

    def state(self) -> dict[str, Tensor]:
        counts = {"counts": torch.tensor([self._steps, self._projected])} if self._steps else {}
        return super().state() | counts

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self._steps, self._projected = state["counts"].tolist() if "counts" in state else (0, 0)

    def terms(self) -> dict[str, float]:
        """The share of the steps in this task whose gradient was projected."""
        return {"projected": self._projected / self._steps} if self._steps else {}


@torch.no_grad()
def project(gradient: list[torch.Tensor], reference: list[torch.Tensor]) -> bool:
    """Change `gradient` in place until it does not point against `reference`; was that needed?"""
    # The gradients of all parameters count as one long vector, as in the paper.
    dot = torch.stack([x.sum() for x in torch._foreach_mul(gradient, reference)]).sum()
    if not dot < 0:
        return False
    # Not zero, because then the product would be zero too.
    norm = torch.stack([x.sum() for x in torch._foreach_mul(reference, reference)]).sum()
    torch._foreach_add_(gradient, reference, alpha=float(-dot / norm))
    return True
