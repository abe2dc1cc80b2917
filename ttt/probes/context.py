"""What a context is worth as it grows, and what can be asked of it.

    along    loss by position in the longest rows
    block    loss of the same last tokens behind contexts of several lengths
    asked    loss and exact answers, by the length of a text and by where in it the answer stands

Everything is read by a `Reader`, in pieces: where attention has a window, memory does not grow with
the length and a token costs the same anywhere. Shapes: R rows, T time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import FastState, Mode, shared
from ttt.learner import Learner, Reader, competing
from ttt.learner.answers import PIECE, exact_rows, first_scored, read_columns
from ttt.metrics.seeds import t_interval
from ttt.stream import IGNORE, Batch, Source

# Equal parts of the longest rows, for the loss by position.
PARTS = 16
# Bounds on memory: rows that are read side by side, and logits of a piece.
LANES, LOGITS = 8, 1 << 26
# mode -> the fast state that each row is read from, and whether it is written
Starts = Mapping[Mode, tuple[FastState, bool]]


@runtime_checkable
class Asked(Source, Protocol):
    """A source of questions that knows how far behind an answer lies what it follows from."""

    def distances(self, index: int, *, length: int) -> tuple[int, int]:
        """Return the least and the most tokens between them, in a class, in rows of `length`."""
        ...


@dataclass(frozen=True)
class RowLosses:
    """What rows cost: `bits_RT` is NaN where nothing is scored; `right_R`: rows without a miss."""

    bits_RT: Tensor
    right_R: Tensor
    seconds: float


def starts_of(learner: Learner, *, has_stream: bool) -> Starts:
    """The modes in which a learner is read; `has_stream`: did a stream leave it a state?"""
    initial = learner.adapter.initial()
    starts: dict[Mode, tuple[FastState, bool]] = {"slow": (initial, False)}
    if initial:
        starts["fast"] = initial, True
    if initial and has_stream and learner.adapter.reset != "sequence":
        starts["carried"] = shared(learner.fast), True
    return starts


def lanes_at_once(learner: Learner) -> int:
    """How many rows are read side by side."""
    # Full attention keeps whole rows: one of them at a time.
    if window_of(learner) is None:
        return 1
    embeddings: Any = learner.model.get_input_embeddings
    return max(min(LANES, LOGITS // (PIECE * embeddings().num_embeddings)), 1)


def window_of(learner: Learner) -> int | None:
    """How many tokens attention sees, the current one included; None: all."""
    window: int | None = getattr(learner.model, "window", None)
    return window


def seen(window: int | None, least: int, most: int) -> str:
    """Does a token that lies from `least` to `most` tokens back lie inside the window?"""
    if window is None or most <= window:
        return "inside"
    return "outside" if least >= window else "partly"


@torch.no_grad()
def read_losses(
    learner: Learner,
    batch: Batch,
    state: FastState,
    *,
    write: bool,
    start: int,
    half: bool = False,
    exact: bool = False,
) -> RowLosses:
    """Read rows from `state`, and score them from position `start` on; `half`: in bf16.

    `exact`: the learner also writes the answers by itself.
    """
    bits, right, seconds = [], [], 0.0
    lanes = lanes_at_once(learner)
    for first in range(0, len(batch.tokens_BT), lanes):
        part = batch.rows(first, first + lanes).to(next(learner.parameters()).device)
        reader = Reader(learner, state=state, write=write)
        with torch.autocast(part.tokens_BT.device.type, torch.bfloat16, enabled=half):
            began = time.perf_counter()
            # What comes before `start` is read for its state alone.
            read_columns(reader, part, 0, start)
            before = {name: x.clone() for name, x in reader.export().items()} if exact else {}
            bits.append(_read_bits(reader, part, start).cpu())
            seconds += time.perf_counter() - began
            # The answers are written from where they begin, which the reader has passed by now.
            if exact:
                reader.restore(before)
                right.append(exact_rows(reader, part, start=start).cpu())
    return RowLosses(torch.cat(bits), torch.cat(right) if exact else torch.empty(0), seconds)


def _read_bits(reader: Reader, batch: Batch, start: int) -> Tensor:
    """Read on from `start`; the bits of each token [R, T - start]."""
    bits = []
    for first in range(start, batch.targets_BT.shape[1], PIECE):
        tokens, targets, segment = (x[:, first : first + PIECE] for x in batch[:3] if x is not None)
        logits_RTV = competing(reader.read(tokens, segment_BT=segment).float(), batch)
        nats = F.cross_entropy(logits_RTV.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
        # cross_entropy gives 0 where nothing is scored: NaN keeps that out of every mean.
        bits.append((nats.double() / math.log(2)).view_as(targets).masked_fill(targets == IGNORE, math.nan))
    return torch.cat(bits, 1)


def last_tokens(batch: Batch, length: int) -> Batch:
    """The last `length` positions of each row."""
    # Cut at the beginning: the ends of the rows, which are compared, stay the same.
    tokens_BT, targets_BT, segment_BT = (x[:, -length:] for x in batch[:3] if x is not None)
    return batch._replace(tokens_BT=tokens_BT, targets_BT=targets_BT, segment_BT=segment_BT)


def probe_text(
    learner: Learner,
    batch: Batch,
    starts: Starts,
    *,
    lengths: Sequence[int],
    block: int,
    half: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, list[dict[str, Any]]]:
    """Return `block` and `along`, from rows as long as the last of `lengths`."""
    window, along = window_of(learner), {}
    rows = []
    for length in lengths:
        text, is_longest = last_tokens(batch, length), length == lengths[-1]
        readings: dict[Mode, RowLosses] = {}
        for mode, (state, write) in starts.items():
            progress(f"{mode}, {length} tokens")
            # Only the longest rows also give the loss by position, from their first token on.
            start = 0 if is_longest else length - block
            readings[mode] = read_losses(learner, text, state, write=write, start=start, half=half)
        bits = {mode: reading.bits_RT[:, -block:].nanmean(1) for mode, reading in readings.items()}
        where = {"length": length, "seen": seen(window, length - block, length)}
        rows.append(where | compared(bits) | _times(readings, tokens=text.num_tokens))
        along = {mode: reading.bits_RT for mode, reading in readings.items()}
    return {"block": rows, "along": by_part(along, window)}


def by_part(bits: Mapping[Mode, Tensor], window: int | None) -> list[dict[str, Any]]:
    """A row for each of PARTS equal parts of the longest rows, in each mode."""
    rows = []
    for positions in torch.arange(next(iter(bits.values())).shape[1]).tensor_split(PARTS):
        first, stop = int(positions[0]), int(positions[-1]) + 1
        parts = {mode: bits_RT[:, first:stop].nanmean(1) for mode, bits_RT in bits.items()}
        rows.append({"from": first, "to": stop, "seen": seen(window, first, stop)} | compared(parts))
    return rows


def probe_asked(
    learner: Learner,
    batches: Mapping[str, Batch],
    starts: Starts,
    *,
    half: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Return a row for each batch: loss and share of exact answers in each mode."""
    rows = []
    for name, batch in batches.items():
        readings: dict[Mode, RowLosses] = {}
        for mode, (state, write) in starts.items():
            progress(f"{mode}, {batch.tokens_BT.shape[1]} tokens, {name}")
            start = first_scored(batch)
            readings[mode] = read_losses(learner, batch, state, write=write, start=start, half=half, exact=True)
        exact = {f"{mode}_exact": float(reading.right_R.double().mean()) for mode, reading in readings.items()}
        bits = compared({mode: reading.bits_RT.nanmean(1) for mode, reading in readings.items()})
        rows.append({"where": name, **bits, **exact, **_times(readings, tokens=batch.num_tokens)})
    return rows


def compared(bits: Mapping[Mode, Tensor]) -> dict[str, float]:
    """Bits of each mode, and what it gains over mode slow: paired by row, with its 95 % interval.

    A row in which nothing is scored says nothing.
    """
    # Every row counts the same, however many of its tokens are scored.
    numbers: dict[str, float] = {}
    for mode, bits_R in bits.items():
        numbers[mode] = float(bits_R.nanmean())
        if mode != "slow":
            gain_R = (bits["slow"] - bits_R)[~bits_R.isnan()]
            interval = t_interval(gain_R.tolist())
            numbers |= {f"{mode}_gain": interval.mean, f"{mode}_half": interval.half}
    return numbers


def _times(readings: Mapping[Mode, RowLosses], *, tokens: int) -> dict[str, float]:
    """Microseconds for each token that is read, in each mode."""
    return {f"{mode}_us": 1e6 * reading.seconds / tokens for mode, reading in readings.items()}
