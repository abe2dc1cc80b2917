"""`consolidate`: what fast weights have learned moves into slow weights, at every step or task end.

    W0 <- W0 + share * trunc_r(S)        S <- S - share * trunc_r(S)

S is the carried state of an adapter that computes with W0 + S (the mean over lanes, where each has
its own), trunc_r its best approximation of rank r. With share = 1 and full rank the model computes
the same before and after.

Two learning systems, a fast one that teaches a slow one (McClelland, McNaughton, O'Reilly 1995), on
the fast weights of arXiv 2604.06169. Memory: none. Cost: one pass over S each time and, with a
rank, one singular value decomposition per layer, which is expensive with every=step. Neither grows
with the number of tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ttt.adapters.base import additive
from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.strategies.shared import AtLeastOne, Fraction, check_tasks
from ttt.stream import Stream


class Consolidate(Strategy):
    """Arguments are explained in conf/strategy/consolidate.yaml."""

    runs_on = "ddp"
    replaces = True

    def __init__(self, *, name: str, every: Literal["task", "step"], share: Fraction, rank: AtLeastOne | None) -> None:
        super().__init__(name=name)
        self._every, self._share, self._rank = every, share, rank
        self.needs_steps = every == "step"
        self._merged: Tensor | None = None

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        adapter = learner.adapter
        if not additive(adapter):
            raise ValueError(
                f"adapter={adapter.name}: strategy={self.name} merges fast weights that add to a slow matrix, and this "
                "adapter has none; use adapter=mlp_fast"
            )
        if adapter.reset == "sequence":
            raise ValueError(
                f"adapter.reset=sequence: strategy={self.name} merges what is carried from batch to batch; use task or "
                "never"
            )
        if self._every == "task":
            check_tasks(stream, name=self.name)

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._pairs = additive(engine.learner.adapter)

    def stepped(self, engine: Engine) -> None:
        if self._every == "step":
            self._merge(engine)

    def end_task(self, engine: Engine, index: int) -> None:
        if self._every == "task":
            self._merge(engine)

    @torch.no_grad()
    def _merge(self, engine: Engine) -> None:
        learner, carried = engine.learner, engine.shared_fast()
        moved, whole = [], []
        for weight, key in self._pairs:
            # The shared state has one lane: the mean over lanes, the same on every device.
            moved_DF = self._share * truncated(carried[key][0], rank=self._rank)
            moved.append(moved_DF.norm())
            whole.append(weight.norm())
            # The state is kept in fp32, also where weights are not.
            weight.add_(moved_DF.to(weight))
            # Each lane gives up the mean that moved and keeps its difference from that mean.
            learner.fast[key] = learner.fast[key] - moved_DF
        self._merged = (torch.stack(moved).norm() / torch.stack(whole).norm()).cpu()

    def terms(self) -> dict[str, float]:
        """The norm of the last merge over that of W0, across layers; nothing before the first."""
        return {} if self._merged is None else {"merged": float(self._merged)}

    def state(self) -> dict[str, Tensor]:
        return {} if self._merged is None else {"merged": self._merged}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._merged = state.get("merged")


def truncated(s_DF: Tensor, *, rank: int | None) -> Tensor:
    """Return the nearest matrix of at most this rank; None: the matrix itself.

    A matrix that is not finite is returned as it is.
    """
    # The decomposition would raise on NaN; the weights carry it on to the check of the loss.
    if rank is None or rank >= min(s_DF.shape) or not bool(s_DF.isfinite().all()):
        return s_DF
    # The first singular values and vectors give the nearest matrix of that rank (Eckart and Young).
    u_DK, sigma_K, v_KF = torch.linalg.svd(s_DF, full_matrices=False)
    return (u_DK[:, :rank] * sigma_K[:rank]) @ v_KF[:rank]
