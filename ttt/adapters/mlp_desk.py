"""When one pass of `mlp_fast` writes: after chunks, after a document's prompt, or at its end.

All layers share the answer. They find it on a `MlpDesk`, as they find the pass on a `Desk`.
Shapes: B batch (lanes), T time, N chunks, C cells per chunk, L tokens of open documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ttt.adapters.base import OPEN, FastState, Lifetime
from ttt.adapters.mlp_open import DecodePass, OpenCells
from ttt.adapters.mlp_rule import WriteRule
from ttt.adapters.reading import Desk, Pass, span_of
from ttt.kernels.chunks import chunk_grid
from ttt.models.cache import Cache
from ttt.stream import Batch

# What a reader must remember between pieces beside the cells of each layer: whether the open chunk
# is the first of its document, and the documents of the tokens that are not written yet.
FIRST, SEGMENTS = f"{OPEN}first", f"{OPEN}segments"


@dataclass(frozen=True)
class WritePass:
    """One pass with its rule.

    `writes`: is anything written in this pass, or any token of it later? `gate_BN`: the factor of
    the state before each chunk; `hold_BN`: 0 where the state returns to zero, else 1. `full_BN`:
    the chunk is written at its end. `tokens_BN1`: the number of tokens that it then holds.
    `live_BNC`: the tokens that take part in a write; C may be 1. `open_from`: the place of the
    first token to keep, where whole documents stay open; else None.
    """

    now: Pass
    rule: WriteRule
    writes: bool
    gate_BN: Tensor
    hold_BN: Tensor
    full_BN: Tensor
    tokens_BN1: Tensor | int
    live_BNC: Tensor
    open_from: int | None = None

    @property
    def after(self) -> FastState:
        return self.now.after


class MlpDesk:
    """Where the layers of one adapter find the current pass and its rule."""

    def __init__(self, lifetime: Lifetime) -> None:
        self.lifetime = lifetime
        self._writing: WritePass | None = None
        # A token in each lane that leaves the chunk open needs no grid: then this stands alone.
        self.decoding: DecodePass | None = None
        self._cells = OpenCells()

    @property
    def writing(self) -> WritePass:
        assert self._writing is not None, "the model must be called through adapter.read(...)"
        return self._writing

    @contextmanager
    def reading(
        self, batch: Batch, state: FastState, *, rule: WriteRule, write: bool, cache: Cache | None
    ) -> Iterator[WritePass | DecodePass]:
        """Open a pass over `batch` that starts from `state`; with `cache`, rows may go on."""
        decoding = self._cells.next(cache, batch, state, rule) if cache is not None and write else None
        writing = self._writing_pass(batch, state, rule=rule, write=write, cache=cache)
        self.decoding = decoding
        try:
            if decoding is not None and not decoding.closes:
                yield decoding
            else:
                with writing:
                    yield decoding or self.writing
        finally:
            self.decoding = None

    @contextmanager
    def _writing_pass(
        self, batch: Batch, state: FastState, *, rule: WriteRule, write: bool, cache: Cache | None
    ) -> Iterator[None]:
        span = span_of(cache)
        # Chunks that end with the part of a process leave nothing open for the next process.
        streaming = cache is not None and not (span is not None and span.is_aligned(rule.chunk))
        whole, segment_BT = rule.write_at == "document", batch.segment_BT
        if whole and streaming and write:
            # A document that is open is written as a whole: read its earlier tokens' cells again.
            open_BL = state.get(SEGMENTS, segment_BT[:, :0])
            segment_BT = torch.cat([open_BL, segment_BT], 1)
            state = {name: x for name, x in state.items() if name not in (f"{OPEN}count", f"{OPEN}segment")}
        chunk = longest_document(segment_BT) if whole and write else rule.chunk
        # Not thin: an open chunk needs its cells, because its targets mix neighbouring tokens.
        desk = Desk(chunk=chunk, lifetime=self.lifetime, thin=False)
        batch = batch._replace(segment_BT=segment_BT)
        with desk.reading(batch, state, write=write, streaming=streaming, span=span) as now:
            self._writing = _BY_TIME[rule.write_at](now, rule)
            try:
                yield
            finally:
                # A model that is called outside `reading` must fail, not read a stale pass.
                self._writing = None


def longest_document(segment_BT: Tensor) -> int:
    """The number of tokens of the longest document in any row; at least 1."""
    row = chunk_grid(segment_BT, max(segment_BT.shape[1], 1))
    return max(int(row.token_BNC.sum(2).max()), 1)


def _by_chunk(now: Pass, rule: WriteRule) -> WritePass:
    """Every chunk is written as soon as it is full."""
    full_BN = now.grid.closes_BN
    gates = _gates(rule, now.grid.begins_BN, now.resets_BN)
    return WritePass(now, rule, now.write, *gates, full_BN, now.grid.size, _live(now, rule, full_BN))


def _by_prompt(now: Pass, rule: WriteRule) -> WritePass:
    """The first chunk of each document is written, and no other."""
    grid, first_BN = now.grid, now.grid.opens_BN
    if now.streaming:
        used_B = grid.token_BNC.any(2).sum(1)
        # The first chunk of a row may have begun in an earlier piece.
        before_B = now.before.get(FIRST, torch.zeros_like(used_B, dtype=torch.bool))
        first_BN = first_BN.clone()
        first_BN[:, 0] |= before_B & ~grid.begins_BN[:, 0] & (used_B > 0)
        last_B = first_BN.gather(1, (used_B - 1).clamp(min=0)[:, None])[:, 0]
        now.after[FIRST] = torch.where(used_B > 0, last_B, before_B)
    full_BN = grid.closes_BN & first_BN
    writes = now.write and not (now.streaming and not bool(first_BN.any()))
    # Decay as a document begins: the chunks after its prompt write nothing that could be older.
    gates = _gates(rule, grid.opens_BN, now.resets_BN)
    return WritePass(now, rule, writes, *gates, full_BN, grid.size, _live(now, rule, full_BN))


def _by_document(now: Pass, rule: WriteRule) -> WritePass:
    """Each document is one chunk, written at its end: where another begins, or the row ends."""
    grid, token_BNC = now.grid, now.grid.token_BNC
    some_BN = token_BNC.any(2)
    full_BN, begins_BN, resets_BN, open_from = some_BN, grid.begins_BN, now.resets_BN, None
    if now.streaming and now.write:
        full_BN = torch.nn.functional.pad(some_BN[:, 1:], (0, 1))
        if SEGMENTS in now.before:
            # Its decay or reset was applied when the document began.
            goes_on_BN = torch.zeros_like(some_BN)
            goes_on_BN[:, 0] = (now.before[SEGMENTS] >= 0).any(1)
            begins_BN, resets_BN = begins_BN & ~goes_on_BN, resets_BN & ~goes_on_BN
        open_from = _keep_last_document(now, some_BN)
    tokens_BN1 = token_BNC.sum(2).unsqueeze(-1)
    live_BNC = _live(now, rule, full_BN) & token_BNC
    if rule.paired:
        live_BNC = live_BNC & torch.nn.functional.pad(token_BNC[..., 1:], (0, 1))
    gates = _gates(rule, begins_BN, resets_BN)
    return WritePass(now, rule, now.write, *gates, full_BN, tokens_BN1, _latest(live_BNC, rule), open_from)


_BY_TIME = {"chunk": _by_chunk, "prompt": _by_prompt, "document": _by_document}


def _gates(rule: WriteRule, fades_BN: Tensor, resets_BN: Tensor) -> tuple[Tensor, Tensor]:
    """`gate_BN` and `hold_BN` of a pass, from where the state decays and where it is reset."""
    hold_BN = (~resets_BN).float()
    return torch.where(fades_BN, rule.decay, 1.0) * hold_BN, hold_BN


def _keep_last_document(now: Pass, some_BN: Tensor) -> int:
    """Note the tokens of each lane's last document for the next piece; return where they begin."""
    assert now.grid.slot_BT is not None, "a row that may go on has slots"
    last_B1 = some_BN.sum(1, keepdim=True) - 1
    open_BT = now.grid.slot_BT // now.grid.size == last_B1
    first = int(open_BT.any(0).int().argmax()) if bool(open_BT.any()) else open_BT.shape[1]
    now.after[SEGMENTS] = torch.where(open_BT, now.segment_BT, -1)[:, first:]
    return first


def _live(now: Pass, rule: WriteRule, full_BN: Tensor) -> Tensor:
    """The tokens that take part in a write, [B, N, C]: those of full chunks; C may be 1."""
    full_BN1 = full_BN[..., None]
    if rule.write_at == "document" or not (rule.paired or rule.rule == "ridge"):
        return full_BN1
    # The last token of a chunk has no next one in it.
    cell_C = torch.arange(now.grid.size, device=full_BN.device)
    return _latest(full_BN1 & (cell_C < now.grid.size - int(rule.paired)), rule)


def _latest(live_BNC: Tensor, rule: WriteRule) -> Tensor:
    """The same without tokens that a ridge fit is too long for: the last `most_tokens` stay."""
    if rule.rule != "ridge":
        return live_BNC
    return live_BNC & (live_BNC.flip(2).cumsum(2).flip(2) <= rule.most_tokens)
