"""`base.until`: train at a constant rate until the mean of the recent weights is good enough.

    mean_n = sum of i^AGE w_i / sum of i^AGE          w_i: the weights at the i-th look, i = 1 .. n

Such a mean does for the loss what a decay of the rate does (arXiv 2405.18392), without a last step
that must be known beforehand: what is compared with `base.until` is what the base then is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ttt.devices.collective import over_devices
from ttt.devices.shards import placed
from ttt.learner import Engine, cross_entropy, num_scored
from ttt.stream import Batch

# The mean age of the weights in the mean is 1 / (AGE + 2) of the training: a tenth.
AGE = 8


class RecentMean:
    """The mean of a model's weights over the looks that were taken at it, the last ones most."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # Sums of small changes: fp32, whatever the precision of the weights.
        self._mean = [parameter.detach().float().clone() for parameter in self._parameters]
        self._looks, self._total = 0, 0.0

    @torch.no_grad()
    def look(self) -> None:
        """Take the present weights into the mean."""
        self._looks += 1
        weight = self._looks**AGE
        self._total += weight
        for mean, parameter in zip(self._mean, self._parameters, strict=True):
            # mean <- mean + share * (w - mean), where the
            # share is i^AGE over the sum of all so far.
            mean.lerp_(parameter.float(), weight / self._total)

    def state(self) -> dict[str, Tensor]:
        """Return the mean and its weight. All devices hold the same."""
        counts = {"looks": torch.tensor(self._looks), "total": torch.tensor(self._total, dtype=torch.float64)}
        return {f"mean.{i}": mean for i, mean in enumerate(self._mean)} | counts

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned."""
        self._looks, self._total = int(state["looks"]), float(state["total"])
        self._mean = [placed(state[f"mean.{i}"].to(mean.device), like=mean) for i, mean in enumerate(self._mean)]

    @torch.no_grad()
    def take(self) -> None:
        """Put the mean into the model. In place: the optimizer and the devices hold its tensors."""
        for mean, parameter in zip(self._mean, self._parameters, strict=True):
            parameter.copy_(mean)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model compute with the mean while open."""
        # These are clones, because the mean is written into the parameters themselves.
        present = [parameter.detach().clone() for parameter in self._parameters]
        try:
            self.take()
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, present, strict=True):
                    parameter.copy_(value)


class Until:
    """Has the mean of the recent weights come down to a loss on the eval part of the base?"""

    def __init__(self, engine: Engine, batch: Batch, limit: float) -> None:
        self._engine, self._batch, self._limit = engine, batch.to(engine.fabric.device), limit
        self._mean, self._loss = RecentMean(engine.learner.model), math.inf

    def is_reached(self) -> bool:
        """Look at the present weights, and answer for the mean that they are now part of."""
        self._mean.look()
        with self._mean.in_place():
            self._loss = held_out_loss(self._engine, self._batch)
        return self._loss <= self._limit

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs to go on looking."""
        return self._mean.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` returned."""
        self._mean.restore(state)

    def end(self) -> float:
        """Leave the mean in the model; return its loss."""
        self._mean.take()
        return self._loss


@torch.no_grad()
def held_out_loss(engine: Engine, batch: Batch) -> float:
    """Bits per scored token in mode fast. All devices read all rows and agree on the number."""
    learner, batch = engine.learner, batch.to(engine.fabric.device)
    learner.eval()
    with engine.fabric.autocast():
        logits_BTV, _ = engine.wrapped(batch, learner.adapter.initial())
    nats = cross_entropy(logits_BTV.float(), batch, reduction="sum") / num_scored(batch)
    learner.train()
    return float(over_devices(engine.fabric, nats)) / math.log(2)
