"""Teachers: the model with earlier weights, and how far a student's answers are from a teacher's.

Shapes: N scored tokens, V outputs, H heads (sets of outputs that compete).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from ttt.strategies.base import Strategy
from ttt.strategies.shared import Coefficient

Weights = dict[str, Tensor]


def weights_of(model: nn.Module) -> Weights:
    """Return a copy of the weights that are trained, by name."""
    # Frozen ones are the same in teacher and student.
    return {name: x.detach().clone() for name, x in model.named_parameters() if x.requires_grad}


@contextmanager
def teacher_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the model compute with these weights while open, without a graph.

    A graph that was built before stays valid after.
    """
    # Data are swapped, not copied: backward finds the student's tensors as they were.
    student = [(parameter, parameter.data, name) for name, parameter in model.named_parameters() if name in weights]
    device = student[0][0].device.type
    half, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    # Autocast caches the half-precision copy of a parameter, and would read the student's.
    with torch.no_grad(), torch.autocast(device, dtype, enabled=half, cache_enabled=False):
        try:
            for parameter, _, name in student:
                parameter.data = weights[name]
            yield
        finally:
            for parameter, data, _ in student:
                parameter.data = data


def distillation_loss(teacher_NV: Tensor, student_NV: Tensor, *, temperature: float, heads_HV: Tensor | None) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)) in nats.

    It is the mean over tokens and the sum over heads. None: all outputs are one head; heads
    [N, H, V]: each token has its own.
    """
    teacher, student = teacher_NV.detach().float() / temperature, student_NV.float() / temperature
    if heads_HV is None:
        log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
        nats = F.kl_div(log_q, log_p, log_target=True, reduction="sum")
    else:
        without = ~heads_HV
        # Each head has a distribution of its own, over its outputs alone: [N, H, V].
        log_p, log_q = (x[:, None].masked_fill(without, -torch.inf).log_softmax(-1) for x in (teacher, student))
        # Outside a head both are -inf, and their difference is NaN.
        nats = (log_p.exp() * (log_p - log_q).masked_fill(without, 0)).sum()
    # T^2 keeps the size of the gradient (Hinton et al. 2015, arXiv 1503.02531).
    return temperature**2 * nats / len(student_NV)


class Distilling(Strategy):
    """A strategy that adds c * `distillation_loss` to the loss."""

    needs_likelihood = True

    def __init__(self, *, name: str, coefficient: Coefficient, temperature: Annotated[float, Gt(0)]) -> None:
        super().__init__(name=name)
        self._coefficient, self._temperature = coefficient, temperature
        self._penalty: Tensor | None = None

    def penalised(self, teacher_NV: Tensor, student_NV: Tensor, *, heads_HV: Tensor | None) -> Tensor:
        """Return the term of the loss, in nats; `terms` reports the latest one."""
        distance = distillation_loss(teacher_NV, student_NV, temperature=self._temperature, heads_HV=heads_HV)
        self._penalty = self._coefficient * distance
        return self._penalty

    def terms(self) -> dict[str, float]:
        return {} if self._penalty is None else {"penalty": float(self._penalty.detach())}
