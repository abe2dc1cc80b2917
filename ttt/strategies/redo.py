"""`redo`: now and then, all hidden units that have gone quiet begin anew.

    s_f = mean_x |h_f(x)| / mean over the units of its layer of the same        dormant: s_f <= tau

Sokar et al. 2023 (arXiv 2302.12902), who look at 256 inputs: on the few of one batch a healthy unit
may be silent. Here the mean is over all training batches since the last time. recycle.py says what
happens to such a unit. Memory: one number a unit. Cost: one pass over hidden activations a step.
Neither grows with the number of tasks; no boundaries are needed. Under SiLU and GELU units are
rarely quiet, so the choice of tau decides.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from ttt.learner import Engine
from ttt.strategies.recycle import Recycling, activity
from ttt.strategies.shared import AtLeastOne, list_from_state, list_state
from ttt.stream import Stream


class Redo(Recycling):
    """Arguments are explained in conf/strategy/redo.yaml."""

    # At tau = 1 the mean unit of a layer would count as dormant.
    def __init__(self, *, name: str, every: AtLeastOne, tau: Annotated[float, Interval(ge=0, lt=1)]) -> None:
        super().__init__(name=name)
        self._every, self._tau = every, tau

    def begin(self, engine: Engine, stream: Stream) -> None:
        super().begin(engine, stream)
        self._dormant: Tensor | None = None
        # The activity of each unit, summed since the last time.
        # The sums are not divided by the number of steps, which would cancel in s_f.
        self._activity = [torch.zeros(x.weight_out.shape[1], device=x.weight_out.device) for x in self.layers]

    @torch.no_grad()
    def stepped(self, engine: Engine) -> None:
        self.steps += 1
        for activity_F, layer in zip(self._activity, self.layers, strict=True):
            activity_F += activity(self.heard[layer.name])
        if self.steps % self._every:
            return
        # Judge all layers before any is renewed: a new unit changes what the next layer reads.
        quiet = [dormant(activity_F, tau=self._tau) for activity_F in self._activity]
        torch._foreach_zero_(self._activity)
        self._dormant = torch.cat(quiet).double().mean().cpu()
        self.renew(engine, {number: quiet_F.nonzero().flatten() for number, quiet_F in enumerate(quiet)})

    def terms(self) -> dict[str, float]:
        """The number of units recycled so far, and the share that was dormant the last time."""
        numbers = {"recycled": float(self.renewed)}
        return numbers if self._dormant is None else numbers | {"dormant": float(self._dormant)}

    def state(self) -> dict[str, Tensor]:
        share = {} if self._dormant is None else {"dormant": self._dormant}
        return super().state() | share | list_state("activity", self._activity)

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self._dormant = state.get("dormant")
        self._activity = list_from_state("activity", state, like=self._activity)


def dormant(activity_F: Tensor, *, tau: float) -> Tensor:
    """Return which units of a layer are tau-dormant, [F]; all are where the layer is silent."""
    # Not `<`: a silent layer has a mean of zero.
    return activity_F <= tau * activity_F.mean()
