"""A pull of the weights towards earlier ones: what l2, l2_init, ewc, online_ewc, si and mas share.

    loss = data + c * sum_i F_i (theta_i - m_i)^2          its gradient: 2 c F (theta - m)

Several pulls are one: sum_t F_t (theta - theta_t)^2 = F (theta - m)^2 + rest, with F = sum_t F_t
and m the mean of the theta_t weighted by F_t. So memory (F and m: at most two numbers a weight) and
cost (two passes over the weights a step) do not grow with the number of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ttt.learner import Engine
from ttt.strategies.base import Strategy
from ttt.strategies.shared import Coefficient, list_from_state, list_state
from ttt.stream import Stream


class Quadratic(Strategy):
    """Adds the gradient of the penalty, which has no factor of 1/2.

    Nothing pulls before the first call of `pull` or `pull_too`.
    """

    runs_on = "ddp"
    anchors = True

    def __init__(self, *, name: str, coefficient: Coefficient) -> None:
        super().__init__(name=name)
        self._coefficient = coefficient
        self.trained: list[Tensor] = []
        # An anchor without importance: all weights count 1.
        self.importance: list[Tensor] = []
        self.anchor: list[Tensor] = []
        # What several anchors cost even at their mean; it has no gradient.
        # In double precision, because it only ever grows.
        self._rest = torch.zeros((), dtype=torch.float64)

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._stream = stream
        self.trained = [parameter for parameter in engine.order if parameter.requires_grad]

    def pull(self, importance: Sequence[Tensor] = ()) -> None:
        """Pull towards the present weights, and from now on towards no others."""
        self.importance = list(importance)
        # Clones: an anchor that shares the weights' memory never pulls.
        self.anchor = [parameter.detach().clone() for parameter in self.trained]

    @torch.no_grad()
    def pull_too(self, importance: Sequence[Tensor]) -> None:
        """Pull towards the present weights as well."""
        if not self.anchor:
            self.pull(importance)
            return
        for i, (parameter, new) in enumerate(zip(self.trained, importance, strict=True)):
            # Two parabolas add up to one, F (x - m)^2 + G (x - theta)^2 = (F + G) (x - m')^2 +
            # rest, with m' = m + G / (F + G) (theta - m) and rest = F G / (F + G) (theta - m)^2.
            total = self.importance[i] + new
            # Where neither task needs a weight, 0 / tiny leaves its anchor alone.
            share = new / total.clamp_min(torch.finfo(total.dtype).tiny)
            away = parameter - self.anchor[i]
            self._rest += (self.importance[i] * share * away.square()).sum(dtype=torch.float64).cpu()
            self.anchor[i] += share * away
            self.importance[i] = total

    @torch.no_grad()
    def gradients(self, engine: Engine) -> None:
        if not self.anchor:
            return
        # All tensors in one call: for small layers a loop costs more than the arithmetic.
        gradients, away = gradients_of(self.trained), torch._foreach_sub(self.trained, self.anchor)
        if self.importance:
            torch._foreach_addcmul_(gradients, away, self.importance, value=2 * self._coefficient)
        else:
            torch._foreach_add_(gradients, away, alpha=2 * self._coefficient)

    @torch.no_grad()
    def penalty(self) -> float:
        """Return the penalty at the present weights, in nats."""
        if not self.anchor:
            return 0.0
        parts = [away.square() for away in torch._foreach_sub(self.trained, self.anchor)]
        if self.importance:
            torch._foreach_mul_(parts, self.importance)
        return self._coefficient * float(torch.stack([part.sum() for part in parts]).sum().cpu() + self._rest)

    def terms(self) -> dict[str, float]:
        return {"penalty": self.penalty()}

    def state(self) -> dict[str, Tensor]:
        if not self.anchor:
            return {}
        return {"rest": self._rest} | list_state("anchor", self.anchor) | list_state("importance", self.importance)

    def restore(self, state: dict[str, Tensor]) -> None:
        if state:
            self._rest = state["rest"]
            self.anchor = list_from_state("anchor", state, like=self.trained)
            self.importance = list_from_state("importance", state, like=self.trained)


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients, to be changed in place; zeros where the data's loss had no part."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
