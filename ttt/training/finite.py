"""Numbers that are not finite: they end a run, or are skipped, before they spoil what it has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.devices.collective import over_devices
from ttt.devices.one_device import Devices
from ttt.devices.shards import local
from ttt.learner import Engine

# A fast state this many times as large as the slow weights drowns them: its numbers are finite, but
# no longer of use.
LARGE = 1e3


class NonFiniteError(RuntimeError):
    """A loss, a weight or a state is no longer a finite number; training on only spoils more."""


def check_finite_values(values: Mapping[str, float], *, on: str, step: int) -> None:
    """Raise NonFiniteError naming the first value of a report on a task that is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"the {name} on {on!r} is {value} by step {step}")


def check_finite_state(engine: Engine, *, where: str) -> None:
    """Raise NonFiniteError where slow weights or fast state hold a number that is not finite."""
    learner = engine.learner
    for what, tensors in (("slow weights", list(learner.parameters())), ("fast state", list(learner.fast.values()))):
        if not all_finite(engine.fabric, tensors):
            raise NonFiniteError(f"the {what} {where} hold numbers that are not finite")


def all_finite(fabric: Devices, tensors: Sequence[Tensor]) -> bool:
    """Are all numbers finite, on all devices? Waits for them."""
    # Each device looks at its own part of a parameter that is cut.
    shares = [local(x.detach()) for x in tensors if x.is_floating_point()]
    if not shares:
        return True
    bad = torch.stack([~x.isfinite().all() for x in shares]).any()
    # The sum gives all devices the same answer: one number anywhere is enough.
    return not bool(over_devices(fabric, bad.float(), op="sum"))


def size_of_state(engine: Engine) -> float:
    """The root mean square of the fast state's numbers over that of the slow weights'."""
    learner = engine.learner
    fast = [x for x in learner.fast.values() if x.is_floating_point()]
    if not fast or engine.is_sharded:
        return 0.0
    return _rms(fast) / max(_rms(list(learner.parameters())), 1e-30)


def _rms(tensors: Sequence[Tensor]) -> float:
    # The norm of all numbers is the norm of the norms of their tensors.
    norm = torch.stack([x.detach().double().norm() for x in tensors]).norm()
    return float(norm) / math.sqrt(sum(x.numel() for x in tensors))


class Skipping:
    """`trainer.on_divergence=skip`: a step whose loss or gradient is not finite moves nothing.

    A step is one of the slow weights, with all batches that share it. Looking at every loss waits
    for the device, which is why this is not the default.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._steps = self._skipped = 0
        self._before: FastState | None = None
        self._spoilt = False

    def begin_batch(self) -> None:
        """Remember the fast state if this is the first batch of a step."""
        if self._before is None:
            # Adapters replace tensors and never change them: a shallow copy holds the values.
            self._before = dict(self._engine.learner.fast)

    def is_finite(self, loss: Tensor) -> bool:
        """Is the loss of this batch finite, on all devices?"""
        finite = all_finite(self._engine.fabric, [loss])
        self._spoilt |= not finite
        return finite

    def is_sound(self) -> bool:
        """May the slow weights step? If not, gradients and fast state are as before its batches."""
        engine = self._engine
        gradients = [parameter.grad for parameter in engine.order if parameter.grad is not None]
        sound = not self._spoilt and all_finite(engine.fabric, gradients)
        self._steps += 1
        if not sound:
            self._skipped += 1
            engine.optimizer.zero_grad()
            assert self._before is not None
            engine.learner.fast = self._before
        self._before, self._spoilt = None, False
        return sound

    def share(self) -> dict[str, float]:
        """The share of the steps since the last call that moved nothing, as a value to watch."""
        share = self._skipped / max(self._steps, 1)
        self._steps = self._skipped = 0
        return {"skipped": share}
