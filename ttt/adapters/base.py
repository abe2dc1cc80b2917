"""What an adapter is: the owner of fast weights, of where they sit, how they are written, when reset.

Shapes: B batch (lanes), T time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ttt.stream import Batch

# Named tensors with a leading lane dimension: 1 (shared by all lanes) or B.
FastState = dict[str, Tensor]
Reset = Literal["sequence", "task", "never"]
Mode = Literal["slow", "fast", "carried"]
RESETS: tuple[Reset, ...] = ("sequence", "task", "never")


class Adapter(Protocol):
    """Fast weights with a declared lifetime. `none` has no state at all.

    Arguments named `reset` and `carry` act in the stream only; a base is trained with `reset=sequence`.
    """

    name: str
    reset: Reset

    def attach(self, model: nn.Module) -> None:
        """Put the fast weights into `model`, in place. Raises ValueError if they do not fit."""
        ...

    def initial(self) -> FastState:
        """The state before anything was read (one lane, shared)."""
        ...

    def reading(self, batch: Batch, state: FastState, *, write: bool) -> AbstractContextManager[FastState]:
        """While open, the model reads `batch` from `state`; yields the dict that receives the new state."""
        ...

    def carry(self, state: FastState) -> FastState:
        """What the next batch starts from, cut off from the graph."""
        ...

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """Numbers about a state worth watching: norms, step sizes."""
        ...


def shared(state: FastState) -> FastState:
    """The mean over lanes as one lane: how a carried state meets sequences it has no lane for."""
    return {name: tensor.mean(dim=0, keepdim=True) for name, tensor in state.items()}


def down_projections(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Linear]]:
    """(name, gated MLP, its down-projection) in order of depth, ours and Hugging Face's alike."""
    for name, module in model.named_modules():
        down = getattr(module, "down_proj", None)
        if isinstance(down, nn.Linear):
            yield name, module, down


def next_state(state: FastState, *, per_lane: bool) -> FastState:
    state = {name: tensor.detach() for name, tensor in state.items()}
    with torch.no_grad():
        return state if per_lane else shared(state)
