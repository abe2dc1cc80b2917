"""`consolidate`: what fast weights have learned moves, little by little or task by task, into slow weights.

    W0 <- W0 + share * trunc_r(S)        S <- S - share * trunc_r(S)

S is the carried state (the mean over lanes, where each has its own) of an adapter that computes with W0 + S, trunc_r
its best approximation of rank r. With share = 1 and full rank the model computes the same before and after.

Two learning systems, a fast one that teaches a slow one (McClelland, McNaughton, O'Reilly 1995), on the fast weights of
arXiv 2604.06169. Memory: none; cost: one pass over S each time, and one singular value decomposition a layer with a
rank: dear with every=step. Neither grows with the number of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.adapters.base import additive
from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.strategies.shared import check_choice, check_least, check_tasks
from ttt.stream import Stream

EVERY = ("task", "step")


class Consolidate(Strategy):
    """Arguments are explained in conf/strategy/consolidate.yaml."""

    runs_on = "ddp"
    replaces = True

    def __init__(self, *, name: str, every: str, share: float, rank: int | None) -> None:
        super().__init__(name=name)
        check_choice(every, argument="every", allowed=EVERY)
        if not 0 <= share <= 1:
            raise ValueError(f"strategy.share={share:g}: must lie between 0 (nothing) and 1 (all)")
        if rank is not None:
            check_least(rank, argument="rank", least=1)
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
            moved_DF = self._share * truncated(carried[key][0], rank=self._rank)
            moved.append(moved_DF.norm())
            whole.append(weight.norm())
            weight.add_(moved_DF.to(weight))
            learner.fast[key] = learner.fast[key] - moved_DF
        self._merged = (torch.stack(moved).norm() / torch.stack(whole).norm()).cpu()

    def terms(self) -> dict[str, float]:
        """What was merged last, over W0: norms over all layers. Nothing before the first time."""
        return {} if self._merged is None else {"merged": float(self._merged)}

    def state(self) -> dict[str, Tensor]:
        return {} if self._merged is None else {"merged": self._merged}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._merged = state.get("merged")


def truncated(s_DF: Tensor, *, rank: int | None) -> Tensor:
    """The matrix of at most this rank that is nearest; None: the matrix itself. One that is not finite stays so."""
    if rank is None or rank >= min(s_DF.shape) or not bool(s_DF.isfinite().all()):
        return s_DF
    u_DK, sigma_K, v_KF = torch.linalg.svd(s_DF, full_matrices=False)
    return (u_DK[:, :rank] * sigma_K[:rank]) @ v_KF[:rank]
