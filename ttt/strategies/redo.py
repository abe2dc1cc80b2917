"""`redo`: now and then, all hidden units that have gone quiet begin anew.

    s_f = mean_x |h_f(x)| / mean over the units of its layer of the same        dormant: s_f <= tau

Sokar et al. 2023 (arXiv 2302.12902), on the last batch; what happens to such a unit is in recycle.py. Memory: none
beside the activations of that batch; cost: one pass over them every `every` steps. Neither grows with the number of
tasks; no boundaries are needed. Under SiLU and GELU units are rarely quiet: tau decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ttt.strategies.recycle import Recycling, activity
from ttt.strategies.shared import check_least
from ttt.stream import Stream

if TYPE_CHECKING:
    from ttt.engine import Engine


class Redo(Recycling):
    """Arguments are explained in conf/strategy/redo.yaml."""

    def __init__(self, *, name: str, every: int, tau: float) -> None:
        super().__init__(name=name)
        check_least(every, argument="every", least=1)
        if not 0 <= tau < 1:
            raise ValueError(f"strategy.tau={tau:g}: must lie in [0, 1); 1 is the mean unit of a layer")
        self._every, self._tau = every, tau

    def begin(self, engine: Engine, stream: Stream) -> None:
        super().begin(engine, stream)
        self._dormant: Tensor | None = None

    @torch.no_grad()
    def stepped(self, engine: Engine) -> None:
        self.steps += 1
        if self.steps % self._every:
            return
        found = [dormant(self.heard[layer.name], tau=self._tau) for layer in self.layers]
        self._dormant = torch.cat(found).double().mean().cpu()
        self.renew(engine, {number: quiet_F.nonzero().flatten() for number, quiet_F in enumerate(found)})

    def terms(self) -> dict[str, float]:
        """Units recycled so far; the share that was dormant when last looked."""
        numbers = {"recycled": float(self.renewed)}
        return numbers if self._dormant is None else numbers | {"dormant": float(self._dormant)}

    def state(self) -> dict[str, Tensor]:
        return super().state() | ({} if self._dormant is None else {"dormant": self._dormant})

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self._dormant = state.get("dormant")


def dormant(h_NF: Tensor, *, tau: float) -> Tensor:
    """[F]: which units of a layer are tau-dormant; all of them where none gives anything."""
    activity_F = activity(h_NF)
    return activity_F <= tau * activity_F.mean()
