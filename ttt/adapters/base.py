"""What an adapter is: fast weights, where they sit, how they are written, when they are reset.

Shapes: B batch (lanes), T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ttt.models.cache import Cache
from ttt.results.scores import Mode as Mode
from ttt.stream import Batch

# Named tensors with a leading lane dimension: 1 (shared by all lanes) or B. All are zero before
# anything is written, so that a state without writes can be recognised by its numbers. Names
# that begin with OPEN belong to an incomplete chunk: only a reader that continues in the middle of
# a sequence needs them, and they end with the batch.
FastState = dict[str, Tensor]
OPEN = "open."
Reset = Literal["sequence", "task", "never"]
Carry = Literal["mean", "lane"]
# Where an adapter can run. `ddp`: it needs whole parameters on each device; `any`: it also works
# with parameters that are sharded over the devices; `one`: one device reads whole batches, because
# its states have no mean.
RunsOn = Literal["one", "ddp", "any"]


class Adapter(Protocol):
    """Fast weights with a declared lifetime. `none` has no state at all.

    Arguments named `reset`, `carry` and `through_writes` act in the stream only; a base is trained
    with `reset=sequence`, through its writes.
    """

    name: str
    reset: Reset
    runs_on: RunsOn

    def attach(self, model: nn.Module) -> None:
        """Put the fast weights into `model`, in place. Raises ValueError if they do not fit."""
        ...

    def initial(self) -> FastState:
        """The state before anything is read (one lane, shared)."""
        ...

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Logits [B, T, V] of `batch` read from `state`, and the state after it.

        With `cache`, the rows continue where `state` and `cache` stopped, even inside a chunk.
        """
        ...

    def carry(self, state: FastState) -> FastState:
        """The state from which the next batch starts, detached from the graph."""
        ...

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """Numbers about a state that are worth watching: norms, step sizes."""
        ...

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        """Describe in words how sequences of `length` tokens are computed in this precision."""
        ...


def passes_logits(adapter: Adapter) -> bool:
    """Does the adapter hand on the model's logits without looking at them?

    Then the model may compute some of them only. Adapters that do have `passes_logits = True`.
    """
    return bool(getattr(adapter, "passes_logits", False))


def crossing_of(adapter: Adapter) -> int | None:
    """After every how many tokens may the fast state cross to the process of the later tokens?

    None: never. Adapters whose state can cross have `crossing`.
    """
    crossing: int | None = getattr(adapter, "crossing", None)
    return crossing


# A protocol of its own: strategies that fold S into W0 must recognise adapters that allow it.
@runtime_checkable
class Additive(Protocol):
    """An adapter whose state adds to slow matrices: the model computes with W0 + S."""

    def additive(self) -> Sequence[tuple[Tensor, str]]:
        """(W0, a parameter; the name of S in the state), layer by layer."""
        ...


def additive(adapter: Adapter) -> Sequence[tuple[Tensor, str]]:
    """The pairs of `Additive.additive`; empty for an adapter that adds to no slow matrix."""
    return adapter.additive() if isinstance(adapter, Additive) else []


@dataclass(frozen=True)
class Lifetime:
    """When fast weights return to zero, and what the next batch starts from."""

    reset: Reset
    carry: Carry

    def next(self, state: FastState) -> FastState:
        """Keep the lanes of `state` or their mean; an open chunk ends with its batch."""
        # Detached: the graph of a batch must not reach into the batch before.
        # In one piece: sums over a tensor round by its layout, which a file does not keep.
        closed = {name: x.detach().contiguous() for name, x in state.items() if not name.startswith(OPEN)}
        return closed if self.carry == "lane" else shared(closed)


def shared(state: FastState) -> FastState:
    """The mean over lanes as one lane, for sequences that have no lane of their own in `state`."""
    return {name: tensor.mean(dim=0, keepdim=True) for name, tensor in state.items()}


def ordered(state: Mapping[str, Tensor], *, like: Iterable[str]) -> FastState:
    """A state with its tensors in the order of `like`; others stand behind them.

    A sum over all tensors of a state, such as the norm of a gradient, rounds otherwise in another
    order: adapters may return one, and files sort by name.
    """
    names = dict.fromkeys([*like, *state])
    return {name: state[name] for name in names if name in state}
