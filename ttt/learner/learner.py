"""The learner: a model and the adapter that owns its fast weights.

What moves its slow weights (objective, strategy, pace) is handed to `ttt.training.train`.
Shapes: B batch (lanes), T time, V vocabulary, N scored positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ttt.adapters.base import Adapter, FastState, ordered, passes_logits
from ttt.devices.context import Context
from ttt.devices.deferred import Deferred
from ttt.devices.shards import is_cut
from ttt.learner.losses import cross_entropy
from ttt.models.cache import Cache
from ttt.models.scored import ScoredAlone
from ttt.optimizers.eager import uncompiled
from ttt.stream import IGNORE, Batch


class OptimizerFactory(Protocol):
    """Builds the optimizer of the slow weights; `clip`: largest gradient norm (None: unclipped)."""

    name: str
    clip: float | None

    def build(self, model: nn.Module) -> torch.optim.Optimizer: ...


class Learner(nn.Module):
    """Slow weights are its parameters; `fast` is the state its next training batch starts from.

    `leaves_out`: can the output layer be left out where nothing is scored? `deferred`: where the
    slow weights get their numbers from, while they have none.
    """

    def __init__(self, model: nn.Module, *, adapter: Adapter, optimizer: OptimizerFactory) -> None:
        super().__init__()
        self.deferred: Deferred | None = None
        adapter.attach(model)
        self.model = model
        self.adapter = adapter
        self.optimizer_factory = optimizer
        self.fast: FastState = adapter.initial()
        self._writes = True
        # Asked once: what a protocol asks of a model takes as long as a small step.
        self.leaves_out = isinstance(model, ScoredAlone) and passes_logits(adapter)

    def forward(
        self,
        batch: Batch,
        state: FastState,
        *,
        write: bool = True,
        cache: Cache | None = None,
        scored: bool = False,
    ) -> tuple[Tensor, FastState]:
        """Logits [B, T, V] and the new state; with `cache`, `batch` goes on where that stopped.

        With `scored`, logits [N, V] of the scored positions alone, where `leaves_out` holds and
        some position is not scored; `scored_logits` takes both.
        """
        with self._head_at(batch) if scored else nullcontext():
            logits, after = self.adapter.read(self.model, batch, state, write=write and self._writes, cache=cache)
        return logits, ordered(after, like=state)

    def _head_at(self, batch: Batch) -> AbstractContextManager[None]:
        if not self.leaves_out:
            return nullcontext()
        scored_BT = batch.targets_BT != IGNORE
        model: Any = self.model
        head: AbstractContextManager[None] = nullcontext() if bool(scored_BT.all()) else model.logits_at(scored_BT)
        return head

    def score(
        self, batch: Batch, state: FastState, *, own: int, context: Context | None = None
    ) -> tuple[Tensor, FastState]:
        """The loss in nats summed over the scored tokens of a part of a batch.

        Also return the state that its first `own` rows leave. With `context`, score the tokens of
        this process alone.
        """
        batch, span = (batch, None) if context is None else context.cut(batch)
        logits, after = self(batch, self.lanes(state, own, of=len(batch.tokens_BT)), cache=span, scored=True)
        nats = cross_entropy(logits, batch, reduction="sum")
        nats = nats if span is None else nats + span.relay.tie()
        # DDP waits for a gradient of every parameter, also of those that only writes use.
        return nats if self._writes else nats + self._untouched(), first_lanes(after, own)

    def lanes(self, state: FastState, own: int, *, of: int) -> FastState:
        """The state for a batch of `of` rows of which only the first `own` belong to lanes.

        The other rows come from a memory of earlier tasks: they start from the initial state.
        """
        if own == of or self.adapter.reset == "sequence":
            return state
        blank = self.adapter.initial()
        return {
            name: torch.cat([x.expand(own, *x.shape[1:]), blank[name].expand(of - own, *x.shape[1:])])
            for name, x in state.items()
        }

    @contextmanager
    def without_writes(self) -> Iterator[None]:
        """Read as mode `slow` does while open: from the initial state, writing nothing.

        The carried state comes back as it was.
        """
        carried = self.fast
        self.fast, self._writes = self.adapter.initial(), False
        try:
            yield
        finally:
            self.fast, self._writes = carried, True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """A new optimizer of the slow weights, under the name that Lightning calls."""
        with uncompiled():
            return self.optimizer_factory.build(self.model)

    def _untouched(self) -> Tensor:
        """Zero, as a function of every parameter that is learned and not cut over devices."""
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad and not is_cut(parameter)]
        return torch.stack([0.0 * parameter.sum() for parameter in learned]).sum()

    def begin_task(self) -> None:
        """Reset the fast state, unless its lifetime is longer than a task."""
        if self.adapter.reset != "never":
            self.fast = self.adapter.initial()


def first_lanes(state: FastState, lanes: int) -> FastState:
    """The first lanes of a state. A state of one lane is shared by all rows and stays as it is."""
    return {name: x if len(x) <= lanes else x[:lanes] for name, x in state.items()}


def slow_hash(model: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters: equal hashes mean equal slow weights."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
