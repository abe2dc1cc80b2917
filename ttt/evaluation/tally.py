"""Sums over the scored tokens of a task, and the shares and means that they give.

Shapes: B sequences, T time, J tasks; S, the sums over a part of a sequence: nats, hits, scored
tokens and, where tokens are text but not bytes, the bytes that they stand for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ttt.results.scores import IN_BYTES, QUANTITIES

# Pieces of a context in the profile of its loss.
PIECES = 16


def tally(nats_BT: Tensor, hits_BT: Tensor, scored_BT: Tensor, *bytes_BT: Tensor) -> Tensor:
    """What scored tokens have, summed over the sequence and each of its halves: [3, S]."""
    half = nats_BT.shape[1] // 2
    sums = []
    for part in (slice(None), slice(0, half), slice(half, None)):
        scored = scored_BT[:, part]
        counted = [x[:, part][scored] for x in (nats_BT, hits_BT, scored_BT, *bytes_BT)]
        sums.append(torch.stack([x.double().sum() for x in counted]))
    return torch.stack(sums)


def tally_along(nats_BT: Tensor, hits_BT: Tensor, scored_BT: Tensor, *bytes_BT: Tensor) -> Tensor:
    """The same sums over PIECES of the sequence, in order, as equal as they can be: [PIECES, S]."""
    length, measured = nats_BT.shape[1], (nats_BT, hits_BT, scored_BT, *bytes_BT)
    sums_TS = torch.stack([torch.where(scored_BT, x, 0).double().sum(0) for x in measured], -1)
    piece_T = torch.arange(length) * PIECES // length
    return sums_TS.new_zeros(PIECES, len(measured)).index_add_(0, piece_T, sums_TS)


def exact_answers(hits_BT: Tensor, scored_BT: Tensor) -> list[Tensor]:
    """Where an answer ends without a miss, and where any answer ends: two of [B, T].

    An answer is a run of scored tokens.
    """
    missed_BT = (scored_BT & ~hits_BT).long()
    misses_BT = missed_BT.cumsum(1)
    begins_BT, ends_BT = scored_BT.clone(), scored_BT.clone()
    begins_BT[:, 1:] &= ~scored_BT[:, :-1]
    ends_BT[:, :-1] &= ~scored_BT[:, 1:]
    # The count of misses never falls: the largest one at a beginning is that of the latest.
    before_BT = torch.where(begins_BT, misses_BT - missed_BT, 0).cummax(1).values
    return [ends_BT & (misses_BT == before_BT), ends_BT]


def shares(sums_J3S: Tensor, *, answers: bool, exact: bool) -> dict[str, list[float]]:
    """What `bits_and_hits` returns, and the shares of answers (`answers`) and of rows (`exact`)."""
    shares: dict[str, list[float]] = {}
    # They lie last, the rows behind the answers.
    for quantity in ["exact"] * exact + ["exact_match"] * answers:
        right_J, of_J = sums_J3S[:, 0, -2:].unbind(-1)
        shares = {quantity: (right_J / of_J).tolist()} | shares
        sums_J3S = sums_J3S[..., :-2]
    return bits_and_hits(sums_J3S) | shares


def bits_and_hits(sums_J3S: Tensor) -> dict[str, list[float]]:
    """Bits per scored token, share of hits and, with bytes, bits per byte.

    NaN where a part has no scored token, or only tokens that stand for no text.
    """
    numbers = {}
    for part, suffix in enumerate(("", "_early", "_late")):
        nats_J, hits_J, scored_J, *bytes_J = sums_J3S[:, part].unbind(-1)
        numbers[f"loss{suffix}"] = (nats_J / scored_J / math.log(2)).tolist()
        numbers[f"accuracy{suffix}"] = (hits_J / scored_J).tolist()
        for count_J in bytes_J:
            per_byte_J = torch.where(count_J > 0, nats_J / count_J / math.log(2), math.nan)
            numbers[f"bits_per_byte{suffix}"] = per_byte_J.tolist()
    return {quantity: numbers[quantity] for quantity in (*QUANTITIES, *IN_BYTES) if quantity in numbers}


def bits_along(sums: Tensor) -> list[list[float]]:
    """Bits per scored token in each of PIECES, from the sums of each task."""
    along = sums[:, -PIECES:]
    bits: list[list[float]] = (along[..., 0] / along[..., 2] / math.log(2)).tolist()
    return bits
