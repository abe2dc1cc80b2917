"""Teachers: the model with weights that it had once, and how far a student's answers are from a teacher's.

Shapes: N scored tokens, V outputs, H heads (sets of outputs that compete).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.strategies.base import Strategy
from ttt.strategies.shared import check_not_negative

Weights = dict[str, Tensor]


def weights_of(model: nn.Module) -> Weights:
    """A copy of the weights that are trained."""
    return {name: x.detach().clone() for name, x in model.named_parameters() if x.requires_grad}


@contextmanager
def wearing(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """While open, the model has these weights and keeps no graph; a graph made before stays valid after."""
    own = [(parameter, parameter.data, name) for name, parameter in model.named_parameters() if name in weights]
    device = own[0][0].device.type
    half, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    # Autocast remembers the halves of parameters by the parameter, and would read the present weights.
    with torch.no_grad(), torch.autocast(device, dtype, enabled=half, cache_enabled=False):
        try:
            for parameter, _, name in own:
                parameter.data = weights[name]
            yield
        finally:
            for parameter, data, _ in own:
                parameter.data = data


def divergence(teacher_NV: Tensor, student_NV: Tensor, *, temperature: float, heads_HV: Tensor | None) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) in nats: mean over tokens, summed over heads.

    T^2 keeps the size of the gradient (Hinton et al. 2015, arXiv 1503.02531). None: all outputs are one head; heads
    [N, H, V]: each token has its own.
    """
    teacher, student = teacher_NV.detach().float() / temperature, student_NV.float() / temperature
    if heads_HV is None:
        log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
        nats = F.kl_div(log_q, log_p, log_target=True, reduction="sum")
    else:
        without = ~heads_HV
        log_p, log_q = (x[:, None].masked_fill(without, -torch.inf).log_softmax(-1) for x in (teacher, student))
        # Outside of a head both are -inf.
        nats = (log_p.exp() * (log_p - log_q).masked_fill(without, 0)).sum()
    return temperature**2 * nats / len(student_NV)


class Taught(Strategy):
    """A strategy that adds c * `divergence` to the loss. Raises ValueError for numbers that cannot be."""

    needs_likelihood = True

    def __init__(self, *, name: str, coefficient: float, temperature: float) -> None:
        super().__init__(name=name)
        check_not_negative(coefficient, argument="coefficient")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"strategy.temperature={temperature:g}: must be a finite number above 0")
        self._coefficient, self._temperature = coefficient, temperature
        self._penalty: Tensor | None = None

    def penalised(self, teacher_NV: Tensor, student_NV: Tensor, *, heads_HV: Tensor | None) -> Tensor:
        """The term of the loss; `terms` tells the latest."""
        distance = divergence(teacher_NV, student_NV, temperature=self._temperature, heads_HV=heads_HV)
        self._penalty = self._coefficient * distance
        return self._penalty

    def terms(self) -> dict[str, float]:
        return {} if self._penalty is None else {"penalty": float(self._penalty.detach())}
