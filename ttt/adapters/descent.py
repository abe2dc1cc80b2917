"""Fast weights that take one SGD step per chunk on the model's own next-token loss.

    W = W0 + S        S <- decay S - step * clip(grad_W of the chunk's mean -log p(token | tokens before it; W))

The model is read chunk after chunk, each lane with weights of its own. The gradient of a chunk is taken at
the weights that read it, through this chunk alone: attention sees earlier chunks as they were read then.
Targets are tokens that were read, never `targets_BT`, and none beyond the chunk.
Shapes: B batch (lanes), T time, N chunks, C cells a chunk, V vocabulary, X any parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt.adapters.base import OPEN, FastState, Lifetime
from ttt.adapters.layers import check_chunk
from ttt.adapters.reading import open_place
from ttt.kernels.chunks import NOTHING_READ, ChunkGrid, Place, chunk_grid
from ttt.models.cache import Cache
from ttt.stream import Batch


class Attach(Protocol):
    """Where fast weights sit: the part of an adapter that knows the model."""

    def logits(self, model: nn.Module, row: Row, *, cache: Cache, fast: FastState) -> Tensor:
        """[B, C, V] with the weights changed by `fast`."""
        ...


@dataclass(frozen=True)
class Row:
    """Tokens of one chunk in each lane; the document of padding is negative. `since_B`: tokens of the chunk
    that were read before these."""

    tokens_BC: Tensor
    segment_BC: Tensor
    since_B: Tensor


@dataclass(frozen=True)
class Part:
    """One column of the grid. `chunk_BC`: all tokens of the chunk, those of earlier pieces too."""

    tokens_BC: Tensor
    segment_BC: Tensor
    opens_B: Tensor
    begins_B: Tensor
    closes_B: Tensor
    since_B: Tensor
    chunk_BC: Tensor


@dataclass(frozen=True)
class Rates:
    """The step's size, the largest norm of one step's gradient (None: any), what is left after each chunk."""

    step: float
    learn_step: bool
    clip: float | None
    decay: float
    second_order: bool

    def __post_init__(self) -> None:
        if self.step <= 0:
            raise ValueError(f"adapter.step={self.step:g}: must be above 0")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"adapter.clip={self.clip:g}: must be above 0 (null: no clipping)")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"adapter.decay={self.decay:g}: must lie between 0 (forget at once) and 1 (keep all)")


class Descent(nn.Module):
    """Reads a batch chunk after chunk and steps behind each; the step size is learned on a log scale."""

    def __init__(self, *, chunk: int, seq_len: int, lifetime: Lifetime, rates: Rates) -> None:
        super().__init__()
        check_chunk(chunk, seq_len=seq_len)
        self.chunk, self.lifetime, self.rates = chunk, lifetime, rates
        self.log_step = nn.Parameter(torch.tensor(math.log(rates.step)), requires_grad=rates.learn_step)

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, attach: Attach, write: bool, cache: Cache | None
    ) -> tuple[Tensor, FastState]:
        """Logits [B, T, V] and the state after."""
        streaming, learning = cache is not None, torch.is_grad_enabled()
        cache = Cache() if cache is None else cache
        # A chunk that came in pieces is read once more, whole, to be differentiated.
        cache.extra = self.chunk if streaming else 0
        place = open_place(state) or (nowhere(batch) if streaming else None)
        grid = chunk_grid(batch.segment_BT, self.chunk, after=place)
        lanes = len(batch.tokens_BT)
        fast = {name: x.expand(lanes, *x.shape[1:]) for name, x in state.items() if not name.startswith(OPEN)}
        open_BC = state.get(f"{OPEN}tokens", torch.zeros_like(batch.tokens_BT[:, :1]))
        since_B = torch.zeros_like(open_BC[:, 0]) if place is None else place.count_B
        reads: list[Tensor] = []
        for part in parts(batch, grid):
            if write and self.lifetime.reset == "sequence":
                fast = scaled(fast, (~part.opens_B).float())
            since_B = torch.where(part.begins_B, 0, since_B)
            open_BC = torch.where(part.segment_BC >= 0, part.tokens_BC, open_BC)
            part = replace(part, since_B=since_B, chunk_BC=open_BC)
            steps = write and bool(part.closes_B.any())
            # Also an evaluation needs a graph, to write.
            with torch.set_grad_enabled(learning or steps):
                logits_BCV, fast = self._chunk(model, part, fast, attach, cache, steps=steps, learning=learning)
            if steps and not learning:
                logits_BCV, fast = logits_BCV.detach(), {name: x.detach() for name, x in fast.items()}
                cache.detach()
            reads.append(logits_BCV)
            since_B = (since_B + (part.segment_BC >= 0).sum(1)) % self.chunk
        after: FastState = dict(fast)
        if streaming:
            after |= {f"{OPEN}count": grid.end.count_B, f"{OPEN}segment": grid.end.segment_B, f"{OPEN}tokens": open_BC}
        return grid.join(torch.stack(reads, 1)), after

    def executor(self, *, length: int) -> str:
        order = "second" if self.rates.second_order else "first"
        return f"{length // self.chunk} steps one after another, {order} order"

    def _chunk(
        self, model: nn.Module, part: Part, fast: FastState, attach: Attach, cache: Cache, *, steps: bool,
        learning: bool,
    ) -> tuple[Tensor, FastState]:  # fmt: skip
        """Read one chunk, or the next piece of it; where it is full, take the step."""
        before = cache.copy()
        if steps:
            fast = {name: x if x.requires_grad else x.clone().requires_grad_() for name, x in fast.items()}
        row = Row(part.tokens_BC, part.segment_BC, part.since_B)
        logits_BCV = attach.logits(model, row, cache=cache, fast=fast)
        if not steps:
            return logits_BCV, fast
        whole_BCV = logits_BCV
        if not bool((part.begins_B | ~part.closes_B).all()):
            document_BC = part.segment_BC.amax(1, keepdim=True).expand_as(part.chunk_BC)
            again = Row(part.chunk_BC, document_BC, torch.zeros_like(part.since_B))
            whole_BCV = attach.logits(model, again, cache=before.before(part.since_B), fast=fast)
        return logits_BCV, self._step(whole_BCV, part, fast, learning=learning)

    def _step(self, logits_BCV: Tensor, part: Part, fast: FastState, *, learning: bool) -> FastState:
        """One step of every lane whose chunk is full; the others stay as they are."""
        targets_BC = part.chunk_BC[:, 1:]
        nats_BC = F.cross_entropy(logits_BCV[:, :-1].float().transpose(1, 2), targets_BC, reduction="none")
        # Summed over lanes: they share nothing, so each gets the gradient of its own mean.
        loss = (nats_BC.mean(1) * part.closes_B).sum()
        second = self.rates.second_order and learning
        found = torch.autograd.grad(loss, list(fast.values()), create_graph=second, retain_graph=learning)
        size_B = self.log_step.exp() * part.closes_B
        if self.rates.clip is not None:
            norm_B = torch.stack([g.square().flatten(1).sum(1) for g in found]).sum(0).clamp(min=1e-20).sqrt()
            size_B = size_B * (self.rates.clip / norm_B).clamp(max=1.0)
        held = scaled(fast, torch.where(part.closes_B, self.rates.decay, 1.0))
        return {name: held[name] - lanewise(size_B, g) * g for name, g in zip(fast, found, strict=True)}


def parts(batch: Batch, grid: ChunkGrid) -> Iterator[Part]:
    """The batch chunk by chunk; a cell without a token belongs to no document."""
    lanes = len(batch.tokens_BT)
    tokens_BNC, segment_BNC = grid.split(torch.stack([batch.tokens_BT, batch.segment_BT + 1], -1)).unbind(-1)
    for n in range(grid.num_chunks):
        opens_B, begins_B, closes_B = (x[:, n].expand(lanes) for x in (grid.opens_BN, grid.begins_BN, grid.closes_BN))
        none_B = torch.zeros_like(tokens_BNC[:, n, 0])
        yield Part(tokens_BNC[:, n], segment_BNC[:, n] - 1, opens_B, begins_B, closes_B, none_B, tokens_BNC[:, n])


def lanewise(factor_B: Tensor, like: Tensor) -> Tensor:
    return factor_B.view(-1, *(1,) * (like.dim() - 1))


def scaled(fast: FastState, factor_B: Tensor) -> FastState:
    return {name: lanewise(factor_B, x) * x for name, x in fast.items()}


def nowhere(batch: Batch) -> Place:
    """The place of a reader that has read nothing."""
    zeros_B = torch.zeros_like(batch.segment_BT[:, 0])
    return Place(zeros_B, zeros_B + NOTHING_READ)
