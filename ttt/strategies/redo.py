"""`redo`: now and then, all hidden units that have gone quiet begin anew.

    s_f = mean_x |h_f(x)| / mean over the units of its layer of the same        dormant: s_f <= tau

Sokar et al. 2023 (arXiv 2302.12902), who look at 256 inputs: on the few of one batch a unit may be silent and well.
Here the mean is over all training batches since the last time. What happens to such a unit is in recycle.py. Memory:
one number a unit; cost: one pass over hidden activations a step. Neither grows with the number of tasks; no boundaries
are needed. Under SiLU and GELU units are rarely quiet: tau decides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.learner import Engine
from ttt.strategies.quadratic import numbered, placed
from ttt.strategies.recycle import Recycling, activity
from ttt.strategies.shared import check_least
from ttt.stream import Stream


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
        # Summed since the last time, of each unit.
        self._activity = [torch.zeros(x.weight_out.shape[1], device=x.weight_out.device) for x in self.layers]

    @torch.no_grad()
    def stepped(self, engine: Engine) -> None:
        self.steps += 1
        for activity_F, layer in zip(self._activity, self.layers, strict=True):
            activity_F += activity(self.heard[layer.name])
        if self.steps % self._every:
            return
        found = [dormant(activity_F, tau=self._tau) for activity_F in self._activity]
        torch._foreach_zero_(self._activity)
        self._dormant = torch.cat(found).double().mean().cpu()
        self.renew(engine, {number: quiet_F.nonzero().flatten() for number, quiet_F in enumerate(found)})

    def terms(self) -> dict[str, float]:
        """Units recycled so far; the share that was dormant when last looked."""
        numbers = {"recycled": float(self.renewed)}
        return numbers if self._dormant is None else numbers | {"dormant": float(self._dormant)}

    def state(self) -> dict[str, Tensor]:
        known = {} if self._dormant is None else {"dormant": self._dormant}
        return super().state() | known | numbered("activity", self._activity)

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self._dormant = state.get("dormant")
        self._activity = placed("activity", state, like=self._activity)


def dormant(activity_F: Tensor, *, tau: float) -> Tensor:
    """[F]: which units of a layer are tau-dormant; all of them where none gives anything."""
    return activity_F <= tau * activity_F.mean()
