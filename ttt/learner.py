"""The learner: a model, the adapter that owns its fast weights, and what moves its slow weights.

Shapes: B batch (lanes), T time, V vocabulary.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from ttt.adapters.base import Adapter, FastState
from ttt.models.cache import Cache
from ttt.strategies.base import Strategy
from ttt.stream import IGNORE, Batch


class OptimizerFactory(Protocol):
    """Builds the optimizer of the slow weights; `clip` is the largest gradient norm (None: unclipped)."""

    name: str
    clip: float | None

    def build(self, model: nn.Module) -> torch.optim.Optimizer: ...


class Learner(LightningModule):
    """Slow weights are its parameters; `fast` is the state its next training batch starts from."""

    def __init__(self, model: nn.Module, *, adapter: Adapter, optimizer: OptimizerFactory, strategy: Strategy) -> None:
        super().__init__()
        adapter.attach(model)
        self.model = model
        self.adapter = adapter
        self.optimizer_factory = optimizer
        self.strategy = strategy
        self.fast: FastState = adapter.initial()

    def forward(
        self, batch: Batch, state: FastState, *, write: bool = True, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Logits [B, T, V] and the state after reading; with `cache`, as the next piece of what was read."""
        return self.adapter.read(self.model, batch, state, write=write, cache=cache)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss in nats over the scored tokens. Carries the fast state on if its lifetime says so."""
        batch = self.strategy.mix(batch, step=batch_idx)
        nats, after = self.score(batch, self.fast)
        self.fast = self.adapter.initial() if self.adapter.reset == "sequence" else self.adapter.carry(after)
        return self.strategy.penalize(nats / num_scored(batch), self.model)

    def score(self, batch: Batch, state: FastState) -> tuple[Tensor, FastState]:
        """The loss in nats, summed over the scored tokens of (a part of) a batch, and the state after reading it."""
        logits_BTV, after = self(batch, state)
        logits_BTV = competing(logits_BTV, batch)
        flat = (logits_BTV.flatten(0, 1), batch.targets_BT.flatten())
        return F.cross_entropy(*flat, ignore_index=IGNORE, reduction="sum"), after

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer_factory.build(self.model)

    def begin_task(self) -> None:
        if self.adapter.reset != "never":
            self.fast = self.adapter.initial()


def num_scored(batch: Batch) -> Tensor:
    return (batch.targets_BT != IGNORE).sum()


def competing(logits_BTV: Tensor, batch: Batch) -> Tensor:
    """Logits with those of outputs that do not compete in a row at -inf."""
    if batch.outputs_BV is None:
        return logits_BTV
    return logits_BTV.masked_fill(~batch.outputs_BV[:, None], float("-inf"))


def slow_hash(model: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters: two models with one hash have equal slow weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
