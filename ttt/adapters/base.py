"""What an adapter is: the owner of fast weights, of where they sit, how they are written, when reset.

Shapes: B batch (lanes), T time, N chunks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ttt.kernels.chunks import ChunkGrid, Place, chunk_grid
from ttt.models.cache import Cache
from ttt.prompts.rollouts import Play, Rollouts
from ttt.stream import Batch

T = TypeVar("T")
# Named tensors with a leading lane dimension: 1 (shared by all lanes) or B. All are zero before anything
# is written. Names that begin with OPEN belong to a chunk that is not complete: only a reader that goes on
# in the middle of a sequence needs them.
FastState = dict[str, Tensor]
OPEN = "open."
Reset = Literal["sequence", "task", "never"]
Mode = Literal["slow", "fast", "carried", "archived"]
RESETS: tuple[Reset, ...] = ("sequence", "task", "never")
CARRIES = ("mean", "lane")


class Adapter(Protocol):
    """Fast weights with a declared lifetime. `none` has no state at all.

    Arguments named `reset`, `carry` and `through_writes` act in the stream only; a base is trained with
    `reset=sequence`, through its writes.
    """

    name: str
    reset: Reset

    def attach(self, model: nn.Module) -> None:
        """Put the fast weights into `model`, in place. Raises ValueError if they do not fit."""
        ...

    def initial(self) -> FastState:
        """The state before anything was read (one lane, shared)."""
        ...

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        """Logits [B, T, V] of `batch` read from `state`, and the state after it.

        With `cache`, the rows go on where `state` and `cache` stopped, be it in the middle of a chunk.
        """
        ...

    def carry(self, state: FastState) -> FastState:
        """What the next batch starts from, cut off from the graph."""
        ...

    def diagnostics(self, state: FastState) -> dict[str, float]:
        """Numbers about a state worth watching: norms, step sizes."""
        ...

    def executor(self, *, length: int, dtype: torch.dtype) -> str:
        """How sequences of `length` tokens are computed in this precision, in words."""
        ...


@runtime_checkable
class Additive(Protocol):
    """An adapter whose state adds to slow matrices: the model computes with W0 + S."""

    def additive(self) -> Sequence[tuple[Tensor, str]]:
        """(W0, a parameter; the name of S in the state), layer by layer."""
        ...


def additive(adapter: Adapter) -> Sequence[tuple[Tensor, str]]:
    """What of the state adds to a slow matrix; empty for an adapter where nothing does."""
    return adapter.additive() if isinstance(adapter, Additive) else []


@dataclass(frozen=True)
class Round:
    """What a round of the fast channel left: the state, how many rollouts it used, and those made under prompts that
    are in use now (None: of an adapter that is not `reusable`)."""

    state: FastState
    used: int
    rollouts: Rollouts | None


@runtime_checkable
class Evolving(Protocol):
    """A fast channel under a reward: an adapter whose fast weights are prompts, which become better by what they earn.

    A prompt is P token ids, or P vectors [P, D] to be added to the embeddings of the seed prompt. It answers in place
    of the seed prompt; rows that carry another one keep that.
    """

    # Does a round leave rollouts made under prompts that are in use after it?
    reusable: bool

    def emitted(self, state: FastState) -> Tensor:
        """The prompts in use, [K, P] or [K, P, D], the best one first."""
        ...

    def evolve(self, state: FastState, play: Play, batch: Batch, *, budget: int) -> Round:
        """A round with at most `budget` rollouts, on the problems of `batch`."""
        ...

    def least(self, *, rows: int, group: int) -> int:
        """Rollouts below which no round on `rows` problems betters a prompt."""
        ...

    def told(self, tokens_BT: Tensor, state: FastState) -> Tensor:
        """Rows with the best prompt in place of the seed prompt, as far as prompts are words."""
        ...

    def added(self, tokens_BT: Tensor, state: FastState) -> Tensor | None:
        """What the best prompt adds to the embeddings at the head of these rows, [B, P, D]; None: nothing."""
        ...

    def holding(self, prompt: Tensor) -> FastState:
        """A state with this prompt in use, and no other."""
        ...


@dataclass(frozen=True)
class Lifetime:
    """When fast weights return to zero, and what the next batch starts from."""

    reset: Reset
    carry: str

    def __post_init__(self) -> None:
        for argument, value, allowed in (("reset", self.reset, RESETS), ("carry", self.carry, CARRIES)):
            if value not in allowed:
                raise ValueError(f"adapter.{argument}={value}: must be one of {', '.join(allowed)}")

    def next(self, state: FastState) -> FastState:
        """The lanes, or their mean, of what was written; an open chunk ends with its batch."""
        closed = {name: x.detach() for name, x in state.items() if not name.startswith(OPEN)}
        with torch.no_grad():
            return closed if self.carry == "lane" else shared(closed)


def shared(state: FastState) -> FastState:
    """The mean over lanes as one lane: how a carried state meets sequences it has no lane for."""
    return {name: tensor.mean(dim=0, keepdim=True) for name, tensor in state.items()}


@dataclass
class Pass:
    """One pass over one piece: what the layers need beside their input, and the state they leave."""

    segment_BT: Tensor
    grid: ChunkGrid
    resets_BN: Tensor
    before: FastState
    write: bool
    streaming: bool
    after: FastState = field(default_factory=dict)
    # Nothing was ever written, and nothing will be: the plain model.
    blank: bool = False

    def state(self, layer: str) -> FastState:
        """What one layer starts from, by its own names; open ones still begin with OPEN."""
        own = {}
        for name, tensor in self.before.items():
            open_ = OPEN if name.startswith(OPEN) else ""
            if name.startswith(f"{open_}{layer}."):
                own[open_ + name.removeprefix(f"{open_}{layer}.")] = tensor
        return own

    def leave(self, layer: str, state: FastState) -> None:
        """The inverse of `state`, for what comes after."""
        for name, tensor in state.items():
            open_ = OPEN if name.startswith(OPEN) else ""
            if self.streaming or not open_:
                self.after[f"{open_}{layer}.{name.removeprefix(open_)}"] = tensor


class Desk:
    """Where the layers of one adapter find the pass that is going on."""

    def __init__(self, *, chunk: int, lifetime: Lifetime, thin: bool) -> None:
        self.chunk, self.lifetime, self._thin = chunk, lifetime, thin
        self._now: Pass | None = None

    @property
    def now(self) -> Pass:
        assert self._now is not None, "the model must be called through adapter.read(...)"
        return self._now

    @contextmanager
    def reading(self, batch: Batch, state: FastState, *, write: bool, streaming: bool) -> Iterator[Pass]:
        place = open_place(state)
        if streaming and place is None:
            place = Place(torch.zeros_like(batch.segment_BT[:, 0]), torch.full_like(batch.segment_BT[:, 0], -1))
        grid = chunk_grid(batch.segment_BT, self.chunk, after=place, thin=self._thin)
        resets_BN = grid.opens_BN if self.lifetime.reset == "sequence" else torch.zeros_like(grid.opens_BN)
        blank = not write and not any(bool(x.any()) for name, x in state.items() if not name.startswith(OPEN))
        self._now = Pass(batch.segment_BT, grid, resets_BN, state, write, streaming, blank=blank)
        if streaming:
            self._now.after |= {f"{OPEN}count": grid.end.count_B, f"{OPEN}segment": grid.end.segment_B}
        try:
            yield self._now
        finally:
            self._now = None


def open_place(state: FastState) -> Place | None:
    """Where the reader that left this state stopped; None: at the end of a batch."""
    return Place(state[f"{OPEN}count"], state[f"{OPEN}segment"]) if f"{OPEN}count" in state else None


def check_chunk(chunk: int, *, seq_len: int, least: int = 1) -> None:
    if not least <= chunk < seq_len:
        raise ValueError(
            f"adapter.chunk={chunk}: must lie between {least} and task.seq_len - 1 = {seq_len - 1}; what the last "
            "chunk of a sequence writes is never read, so one chunk would mean no fast weights at all"
        )


def pick_layers(found: Sequence[T], only: list[int] | None) -> list[T]:
    """The layers that the user named by depth; None: all. Raises ValueError."""
    for index in only or ():
        if not 0 <= index < len(found):
            raise ValueError(f"adapter.layers={only}: layer {index} is not one of 0 .. {len(found) - 1}")
    if only == [] or len(set(only or ())) < len(only or ()):
        raise ValueError(f"adapter.layers={only}: must name at least one layer, each once (null: all)")
    return list(found) if only is None else [found[index] for index in only]


def down_projections(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Linear]]:
    """(name, gated MLP, its down-projection) in order of depth, ours and Hugging Face's alike."""
    for name, module in model.named_modules():
        down = getattr(module, "down_proj", None)
        if isinstance(down, nn.Linear):
            yield name, module, down
