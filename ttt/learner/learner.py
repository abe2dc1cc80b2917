"""The learner: a model, the adapter that owns its fast weights, and what moves its slow weights.

Shapes: B batch (lanes), T time, V vocabulary.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import Adapter, FastState
from ttt.models.cache import Cache
from ttt.objectives.base import Objective
from ttt.objectives.next_token import NextToken
from ttt.strategies.base import Strategy
from ttt.stream import IGNORE, Batch


class OptimizerFactory(Protocol):
    """Builds the optimizer of the slow weights; `clip` is the largest gradient norm (None: unclipped)."""

    name: str
    clip: float | None

    def build(self, model: nn.Module) -> torch.optim.Optimizer: ...


class Learner(nn.Module):
    """Slow weights are its parameters; `fast` is the state its next training batch starts from.

    `objective` None: the likelihood of the next token.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        adapter: Adapter,
        optimizer: OptimizerFactory,
        strategy: Strategy,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        adapter.attach(model)
        self.model = model
        self.adapter = adapter
        self.optimizer_factory = optimizer
        self.strategy = strategy
        self.objective = objective or NextToken(name="next_token")
        self.fast: FastState = adapter.initial()

    def forward(
        self, batch: Batch, state: FastState, *, write: bool = True, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Logits [B, T, V] and the state after reading; with `cache`, as the next piece of what was read."""
        return self.adapter.read(self.model, batch, state, write=write, cache=cache)

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """The loss that the objective makes of a batch."""
        return self.objective.loss(self, batch, step)

    def likelihood(self, batch: Batch, step: int) -> Tensor:
        """Mean loss in nats over the scored tokens, with what the strategy adds.

        Carries the fast state on if its lifetime says so.
        """
        strategy, adapter = self.strategy, self.adapter
        own, memory = len(batch.tokens_BT), strategy.memory(batch, step=step)
        if memory is not None:
            batch = Batch.stack([batch, memory])
        # Not by __call__, and nothing is set that stays as it is: both take longer than they look.
        logits_BTV, after = self.forward(batch, self.lanes(self.fast, own, of=len(batch.tokens_BT)))
        if adapter.reset != "sequence":
            self.fast = adapter.carry(first(after, own))
        extra = strategy.extra(self, batch, logits_BTV, own=own)
        loss = cross_entropy(logits_BTV, batch, reduction="mean")
        return loss if extra is None else loss + extra

    def score(self, batch: Batch, state: FastState, *, own: int) -> tuple[Tensor, FastState]:
        """For a part of a batch: the loss in nats, summed over its scored tokens, and the state that its first `own`
        rows leave."""
        logits_BTV, after = self(batch, self.lanes(state, own, of=len(batch.tokens_BT)))
        return cross_entropy(logits_BTV, batch, reduction="sum"), first(after, own)

    def lanes(self, state: FastState, own: int, *, of: int) -> FastState:
        """The state for the rows of a batch of which only the first `own` belong to lanes; the others start anew."""
        if own == of or self.adapter.reset == "sequence":
            return state
        blank = self.adapter.initial()
        return {
            name: torch.cat([x.expand(own, *x.shape[1:]), blank[name].expand(of - own, *x.shape[1:])])
            for name, x in state.items()
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer_factory.build(self.model)

    def begin_task(self) -> None:
        if self.adapter.reset != "never":
            self.fast = self.adapter.initial()


def first(state: FastState, lanes: int) -> FastState:
    """The first lanes of a state; one lane is everybody's."""
    return {name: x if len(x) <= lanes else x[:lanes] for name, x in state.items()}


def cross_entropy(logits_BTV: Tensor, batch: Batch, *, reduction: str) -> Tensor:
    """In nats over the scored tokens."""
    flat = as_rows(competing(logits_BTV, batch)), batch.targets_BT.reshape(-1)
    return F.cross_entropy(*flat, ignore_index=IGNORE, reduction=reduction)


def as_rows(logits_BTV: Tensor) -> Tensor:
    """[B * T, V]. Where logits are a view of just that, what they are a view of: two nodes less in the graph, which is
    5 % of a step of a small network."""
    whole = logits_BTV._base
    flat = (logits_BTV.shape[0] * logits_BTV.shape[1], logits_BTV.shape[2])
    if whole is not None and whole.shape == flat and whole.is_contiguous() and logits_BTV.is_contiguous():
        return whole
    return logits_BTV.reshape(flat)


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
