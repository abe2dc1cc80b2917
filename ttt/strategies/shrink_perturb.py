"""`shrink_perturb`: weights are pulled towards zero and shaken, so that learning stays as easy as at the start.

    theta <- shrink * theta + noise,   noise ~ N(0, (perturb * s)^2),   s: spread of the tensor at the start

As each task begins (Ash & Adams 2020, arXiv 1910.08475) or after every step (Dohare et al. 2024, Nature; arXiv
2306.13812). Matrices and biases, as there: where weights shrink and biases do not, ReLU units die. Gains of norms,
whose rest is not zero, are left alone. Memory: a counter, and room for the noise of one step; cost: three passes over
the weights, most of it for random numbers. Neither grows with the number of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.strategies.shared import check_choice, check_not_negative, check_tasks, generator
from ttt.stream import Stream

EVERY = ("step", "task")


class ShrinkPerturb(Strategy):
    """Arguments are explained in conf/strategy/shrink_perturb.yaml."""

    runs_on = "ddp"

    def __init__(self, *, name: str, every: str, shrink: float, perturb: float) -> None:
        super().__init__(name=name)
        check_choice(every, argument="every", allowed=EVERY)
        if not 0 <= shrink <= 1:
            raise ValueError(f"strategy.shrink={shrink:g}: must lie between 0 (nothing is left) and 1 (all is)")
        check_not_negative(perturb, argument="perturb")
        self._every, self._shrink, self._perturb = every, shrink, perturb
        # How often it was done.
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
        self._noise = [torch.empty_like(weight) for weight in self._weights] if self._perturb else []

    def begin_task(self, engine: Engine, index: int) -> None:
        if self._every == "task" and index:
            self._shake()

    def stepped(self, engine: Engine) -> None:
        if self._every == "step":
            self._shake()

    @torch.no_grad()
    def _shake(self) -> None:
        torch._foreach_mul_(self._weights, self._shrink)
        if self._noise:
            random = generator(self._stream, self._count, device=self._noise[0].device)
            for noise, spread in zip(self._noise, self._spreads, strict=True):
                noise.normal_(0.0, self._perturb * spread, generator=random)
            torch._foreach_add_(self._weights, self._noise)
        self._count += 1

    def state(self) -> dict[str, Tensor]:
        return {"count": torch.tensor(self._count)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._count = int(state["count"])
