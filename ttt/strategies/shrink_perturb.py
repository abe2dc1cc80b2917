"""`shrink_perturb`: weights are pulled towards zero and perturbed, so that learning stays easy.

    theta <- shrink * theta + noise        noise ~ N(0, (perturb * s)^2)
    s: spread of the tensor at the start

As each task begins (Ash & Adams 2020, arXiv 1910.08475) or after every step (Dohare et al. 2024,
Nature; arXiv 2306.13812). Matrices and biases, as there: if weights shrink and biases do not, ReLU
units die. Gains of norms are left alone, because they rest at one and not at zero. Memory: a
counter, and room for the noise of one step. Cost: three passes over the weights, most of it for
random numbers. Neither grows with the number of tasks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.strategies.shared import Coefficient, Fraction, check_tasks, generator
from ttt.stream import Stream


class ShrinkPerturb(Strategy):
    """Arguments are explained in conf/strategy/shrink_perturb.yaml."""

    runs_on = "ddp"

    def __init__(self, *, name: str, every: Literal["step", "task"], shrink: Fraction, perturb: Coefficient) -> None:
        super().__init__(name=name)
        self._every, self._shrink, self._perturb = every, shrink, perturb
        # The noise is a function of how often weights were perturbed.
        self._count = 0

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        if self._every == "task":
            check_tasks(stream, name=self.name)

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._stream = stream
        trained = {id(parameter) for parameter in engine.order}
        self._weights: list[Tensor] = [
            parameter
            for name, parameter in engine.learner.model.named_parameters()
            if id(parameter) in trained and (parameter.dim() > 1 or name.rpartition(".")[2] == "bias")
        ]
        self._spreads = [float(weight.detach().std(correction=0)) for weight in self._weights]
        # Room that is used again at every step, instead of allocated.
        self._noise = [torch.empty_like(weight) for weight in self._weights] if self._perturb else []

    def begin_task(self, engine: Engine, index: int) -> None:
        # The first task begins from the base as it is.
        if self._every == "task" and index:
            self._shake()

    def stepped(self, engine: Engine) -> None:
        if self._every == "step":
            self._shake()

    @torch.no_grad()
    def _shake(self) -> None:
        torch._foreach_mul_(self._weights, self._shrink)
        if self._noise:
            # On the weights' device: copying the noise there would cost more than drawing it.
            random = generator(self._stream, self._count, device=self._noise[0].device)
            for noise, spread in zip(self._noise, self._spreads, strict=True):
                noise.normal_(0.0, self._perturb * spread, generator=random)
            torch._foreach_add_(self._weights, self._noise)
        self._count += 1

    def state(self) -> dict[str, Tensor]:
        return {"count": torch.tensor(self._count)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._count = int(state["count"])
