"""`continual_backprop`: after every step a few of the least useful hidden units begin anew.

    u_f <- decay * u_f + (1 - decay) * mean_x |h_f(x)| * sum_k |w_kf|        w_kf: out of unit f

In each layer the share `replacement_rate` of the units older than `maturity` steps is replaced:
those with the lowest u / (1 - decay^age). Shares below one unit add up until they make one.
recycle.py says what happens to such a unit.

Dohare et al., Nature 2024 (arXiv 2306.13812), with the age correction of their code, but without
its shift of the next biases. Memory: two numbers a unit. Cost: one pass over hidden activations and
their outgoing weights a step. Neither grows with the number of tasks; no boundaries are needed.

Shapes: F units of a layer, M mature ones, K units to replace.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from ttt.learner import Engine
from ttt.strategies.recycle import Recycling, activity, sizes
from ttt.strategies.shared import Fraction, list_from_state, list_state
from ttt.stream import Stream


class ContinualBackprop(Recycling):
    """Arguments are explained in conf/strategy/continual_backprop.yaml."""

    def __init__(
        self,
        *,
        name: str,
        replacement_rate: Fraction,
        maturity: Annotated[int, Ge(0)],
        decay: Annotated[float, Interval(ge=0, lt=1)],
    ) -> None:
        super().__init__(name=name)
        self._rate, self._maturity, self._decay = replacement_rate, maturity, decay

    def begin(self, engine: Engine, stream: Stream) -> None:
        super().begin(engine, stream)
        # Names and weights, looked up once: the look-up is a good part of the cost of a step.
        self._out = [(layer.name, layer.weight_out.detach()) for layer in self.layers]
        # The columns of the matrix out of a layer are its hidden units.
        weights = [weight for _, weight in self._out]
        self.utility = [torch.zeros(weight.shape[1], device=weight.device) for weight in weights]
        # On the CPU: every step counts the mature units, and must not wait for the device.
        self.age = [np.zeros(weight.shape[1], dtype=np.int64) for weight in weights]
        self.due = [0.0] * len(weights)

    @torch.no_grad()
    def stepped(self, engine: Engine) -> None:
        self.steps += 1
        chosen: dict[int, Tensor] = {}
        for number, (name, weight) in enumerate(self._out):
            # In place: u <- decay * u + (1 - decay) * (activity times the sum of outgoing weights).
            self.utility[number].lerp_(activity(self.heard[name]) * sizes(weight), 1 - self._decay)
            self.age[number] += 1
            if (units_K := self._least_useful(number)) is not None:
                chosen[number] = units_K
        if chosen:
            self.renew(engine, chosen)
            # A new unit starts at age zero, so that `maturity` protects it until it has learned.
            for number, units_K in chosen.items():
                self.utility[number][units_K.to(self.utility[number].device)] = 0.0
                self.age[number][units_K.numpy()] = 0

    def _least_useful(self, number: int) -> Tensor | None:
        """Return the units of a layer that are due; None at most steps, where none are."""
        mature_F = self.age[number] > self._maturity
        self.due[number] += self._rate * int(np.count_nonzero(mature_F))
        count = int(self.due[number])
        # The fraction of a unit that is left over waits for later steps.
        self.due[number] -= count
        if not count:
            return None
        # Only from here on does a step wait for the device, and most steps have returned before.
        units_M = mature_F.nonzero()[0]
        # The running mean starts at zero: divide by the weight that it has gathered since.
        useful_M = self.utility[number].double().cpu().numpy()[units_M] / (1 - self._decay ** self.age[number][units_M])
        # Stable: ties go to the first unit, the same one on every machine.
        return torch.from_numpy(units_M[useful_M.argsort(stable=True)[:count]])

    def terms(self) -> dict[str, float]:
        """The number of units replaced so far, and the mean utility."""
        return {"replaced": float(self.renewed), "utility": float(torch.cat(self.utility).mean())}

    def state(self) -> dict[str, Tensor]:
        due = {"due": torch.tensor(self.due, dtype=torch.float64)}
        age = [torch.from_numpy(age_F.copy()) for age_F in self.age]
        return super().state() | due | list_state("utility", self.utility) | list_state("age", age)

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.due = state["due"].tolist()
        self.utility = list_from_state("utility", state, like=self.utility)
        self.age = [state[f"age.{i}"].numpy().copy() for i in range(len(self.age))]
