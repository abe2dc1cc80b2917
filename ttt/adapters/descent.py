"""Fast weights that take one SGD step per chunk on the model's own next-token loss.

    W = W0 + S
    S <- decay S - step * clip(grad_W of the chunk's mean -log p(token | tokens before it; W))

The model reads chunk after chunk, with separate weights in each lane. The gradient of a chunk is
taken at the weights that read the chunk, and through this chunk alone: attention sees earlier
chunks as they were read. Targets are tokens that were read, never `targets_BT`, and none lie beyond
the chunk.
Shapes: B batch (lanes), T time, N chunks, C cells per chunk, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import OPEN, FastState, Lifetime
from ttt.adapters.layers import check_chunk
from ttt.adapters.reading import no_place, open_place
from ttt.kernels.chunks import ChunkGrid, chunk_grid
from ttt.models.cache import Cache
from ttt.stream import Batch


@dataclass(frozen=True)
class ChunkTokens:
    """Tokens of one chunk in each lane, [B, C]; a negative document in `segment_BC` is padding.

    `since_B`: how many tokens of the chunk were read before these.
    """

    tokens_BC: Tensor
    segment_BC: Tensor
    since_B: Tensor


@runtime_checkable
class Attach(Protocol):
    """Where fast weights sit: the part of an adapter that knows the model."""

    def logits(self, model: nn.Module, chunk: ChunkTokens, *, cache: Cache, fast: FastState) -> Tensor:
        """[B, C, V] under the weights changed by `fast`."""
        ...


@dataclass(frozen=True)
class GridColumn:
    """The n-th chunk of every lane.

    `new`: its tokens in this piece; `whole_BC`: all its tokens so far, earlier pieces included;
    `opens_B`, `begins_B`, `closes_B`: this piece holds its first token, which begins a document;
    its first token; its last token.
    """

    new: ChunkTokens
    whole_BC: Tensor
    opens_B: Tensor
    begins_B: Tensor
    closes_B: Tensor

    @property
    def is_whole(self) -> bool:
        """Does every chunk that closes here also begin here?"""
        return bool((self.begins_B | ~self.closes_B).all())

    def again(self) -> ChunkTokens:
        """The chunk from its first token on, to be read once more."""
        document_BC = self.new.segment_BC.amax(1, keepdim=True).expand_as(self.whole_BC)
        return ChunkTokens(self.whole_BC, document_BC, torch.zeros_like(self.new.since_B))


@dataclass(frozen=True)
class Rates:
    """How steps are taken: size, largest norm of a gradient (None: any), share kept per chunk.

    `second_order`: the outer gradient passes through the inner one.
    """

    step: float
    learn_step: bool
    clip: float | None
    decay: float
    second_order: bool


class Descent(nn.Module):
    """Reads a batch chunk after chunk and takes a step after each full chunk."""

    def __init__(self, *, chunk: int, seq_len: int, lifetime: Lifetime, rates: Rates) -> None:
        super().__init__()
        check_chunk(chunk, seq_len=seq_len)
        self.chunk, self.lifetime, self.rates = chunk, lifetime, rates
        # Learned on a log scale: the step size stays positive.
        self.log_step = nn.Parameter(torch.tensor(math.log(rates.step)), requires_grad=rates.learn_step)

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, attach: Attach, write: bool, cache: Cache | None
    ) -> tuple[Tensor, FastState]:
        """Logits [B, T, V], and the state after the batch."""
        streaming = cache is not None
        cache = Cache() if cache is None else cache
        # A chunk that came in pieces is read once more as a whole for its gradient: the cache must
        # still hold everything that the chunk's first token saw.
        cache.extra = self.chunk if streaming else 0
        place = open_place(state) or (no_place(batch) if streaming else None)
        grid = chunk_grid(batch.segment_BT, self.chunk, after=place)
        lanes = len(batch.tokens_BT)
        fast = {name: x.expand(lanes, *x.shape[1:]) for name, x in state.items() if not name.startswith(OPEN)}
        open_BC = state.get(f"{OPEN}tokens", torch.zeros_like(batch.tokens_BT[:, :1]))
        since_B = torch.zeros_like(open_BC[:, 0]) if place is None else place.count_B
        reads: list[Tensor] = []
        for column in grid_columns(batch, grid, open_BC=open_BC, since_B=since_B):
            if write and self.lifetime.reset == "sequence":
                fast = scaled(fast, (~column.opens_B).float())
            logits_BCV, fast = self._read_column(model, column, fast, attach, cache, write=write)
            reads.append(logits_BCV)
            open_BC = column.whole_BC
        after: FastState = dict(fast)
        if streaming:
            after |= {f"{OPEN}count": grid.end.count_B, f"{OPEN}segment": grid.end.segment_B, f"{OPEN}tokens": open_BC}
        return grid.join(torch.stack(reads, 1)), after

    def executor(self, *, length: int) -> str:
        """Describe in words how rows of `length` tokens are computed."""
        order = "second" if self.rates.second_order else "first"
        return f"{length // self.chunk} steps one after another, {order} order"

    def _read_column(
        self, model: nn.Module, column: GridColumn, fast: FastState, attach: Attach, cache: Cache, *, write: bool
    ) -> tuple[Tensor, FastState]:
        """Read one chunk, or the next piece of it; step in the lanes where the chunk is full."""
        learning = torch.is_grad_enabled()
        if not (write and bool(column.closes_B.any())):
            return attach.logits(model, column.new, cache=cache, fast=fast), fast
        before = cache.copy()
        # An evaluation needs a graph, too: a write is a gradient.
        with torch.enable_grad():
            fast = {name: x if x.requires_grad else x.clone().requires_grad_() for name, x in fast.items()}
            logits_BCV = attach.logits(model, column.new, cache=cache, fast=fast)
            whole_BCV = logits_BCV
            if not column.is_whole:
                earlier = before.before(column.new.since_B)
                whole_BCV = attach.logits(model, column.again(), cache=earlier, fast=fast)
            fast = self._step(whole_BCV, column, fast, learning=learning)
        if learning:
            return logits_BCV, fast
        # Nobody differentiates an evaluation: without this its graph would grow with the sequence.
        cache.detach()
        return logits_BCV.detach(), {name: x.detach() for name, x in fast.items()}

    def _step(self, logits_BCV: Tensor, column: GridColumn, fast: FastState, *, learning: bool) -> FastState:
        """Take one step in every lane whose chunk is full; the other lanes stay as they are."""
        targets_BC = column.whole_BC[:, 1:]
        nats_BC = F.cross_entropy(logits_BCV[:, :-1].float().transpose(1, 2), targets_BC, reduction="none")
        # Lanes share nothing: summed over them, each gets the gradient of its own mean.
        loss = (nats_BC.mean(1) * column.closes_B).sum()
        second_order = self.rates.second_order and learning
        # The outer backward pass still needs the graph of the logits, also in first order.
        grads = torch.autograd.grad(loss, list(fast.values()), create_graph=second_order, retain_graph=learning)
        size_B = self.log_step.exp() * column.closes_B
        if self.rates.clip is not None:
            # The floor keeps the derivative of the square root finite where a lane has no gradient.
            norm_B = torch.stack([g.square().flatten(1).sum(1) for g in grads]).sum(0).clamp(min=1e-20).sqrt()
            size_B = size_B * (self.rates.clip / norm_B).clamp(max=1.0)
        decayed = scaled(fast, torch.where(column.closes_B, self.rates.decay, 1.0))
        return {name: decayed[name] - lanewise(size_B, g) * g for name, g in zip(fast, grads, strict=True)}


def grid_columns(batch: Batch, grid: ChunkGrid, *, open_BC: Tensor, since_B: Tensor) -> Iterator[GridColumn]:
    """The batch chunk by chunk; a cell without a token belongs to no document.

    `open_BC`, `since_B`: the tokens of an earlier piece's open chunk, and how many there are.
    """
    lanes = len(batch.tokens_BT)
    # Empty cells are zero, which is a document: shifted by one, they become -1 after the split.
    tokens_BNC, segment_BNC = grid.split(torch.stack([batch.tokens_BT, batch.segment_BT + 1], -1)).unbind(-1)
    for n in range(grid.num_chunks):
        opens_B, begins_B, closes_B = (x[:, n].expand(lanes) for x in (grid.opens_BN, grid.begins_BN, grid.closes_BN))
        segment_BC = segment_BNC[:, n] - 1
        is_real_BC = segment_BC >= 0
        since_B = torch.where(begins_B, 0, since_B)
        # New tokens overwrite the cells of the chunk before; those of an open chunk stay in place.
        open_BC = torch.where(is_real_BC, tokens_BNC[:, n], open_BC)
        yield GridColumn(ChunkTokens(tokens_BNC[:, n], segment_BC, since_B), open_BC, opens_B, begins_B, closes_B)
        since_B = (since_B + is_real_BC.sum(1)) % grid.size


def lanewise(factor_B: Tensor, like: Tensor) -> Tensor:
    """One factor per lane, with the dimensions of `like`."""
    return factor_B.view(-1, *(1,) * (like.dim() - 1))


def scaled(fast: FastState, factor_B: Tensor) -> FastState:
    """Fast weights times one factor per lane."""
    return {name: lanewise(factor_B, x) * x for name, x in fast.items()}
