"""What writing while reading is worth on single documents, each read with writes on and off.

Nothing is trained. Each document is read from an empty fast state; its loss with writes is paired
with its loss without, so that easy and hard documents do not hide a small gain.
Shapes: R rows of a document, T time, P pieces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.learner import Learner, competing
from ttt.metrics.seeds import t_interval
from ttt.stream import IGNORE, Batch, Ints

# Equal parts of a document, for the loss by position.
PIECES = 16


@dataclass(frozen=True)
class DocumentLosses:
    """Losses of one document in bits per token; NaN where nothing is scored.

    `late`: over its second half. `pieces`: over each of PIECES parts, in order. `late_per_byte`:
    bits per byte of text, NaN where tokens are not text. `exact`: the share of rows in which every
    scored token is the likeliest, so that greedy decoding would have written the same.
    """

    late: float
    whole: float
    pieces: list[float]
    late_per_byte: float
    exact: float


@torch.no_grad()
def read_document(
    learner: Learner, batch: Batch, *, write: bool, half: bool, token_bytes: Ints | None
) -> DocumentLosses:
    """Read the rows of a document one by one, each from the initial state; `half`: in bf16."""
    bits, hits = [], []
    for r in range(len(batch.tokens_BT)):
        row = batch.rows(r, r + 1)
        with torch.autocast(batch.tokens_BT.device.type, torch.bfloat16, enabled=half):
            logits_BTV, _ = learner(row, learner.adapter.initial(), write=write)
        flat = competing(logits_BTV.float(), row).flatten(0, 1)
        nats_T = F.cross_entropy(flat, row.targets_BT.flatten(), ignore_index=IGNORE, reduction="none")
        bits.append(nats_T.double() / math.log(2))
        # Where nothing is scored this is False: `losses_of` leaves such places out.
        hits.append(flat.argmax(-1) == row.targets_BT.flatten())
    return losses_of(torch.stack(bits), torch.stack(hits), batch.targets_BT, token_bytes=token_bytes)


def with_foreign_beginnings(batches: Sequence[Batch]) -> list[Batch]:
    """Return the documents with the first half of the next one in place of their own.

    What writes gain in the second half is then no memory of the document: the control.
    """
    swapped = []
    # Each document gets the beginning of the next one, and the last that of the first.
    for batch, other in zip(batches, [*batches[1:], *batches[:1]], strict=True):
        half = batch.tokens_BT.shape[1] // 2
        tokens_BT, targets_BT = batch.tokens_BT.clone(), batch.targets_BT.clone()
        tokens_BT[:, :half] = other.tokens_BT[: len(tokens_BT), :half]
        # The last token of the other text would have to guess where this one begins.
        targets_BT[:, :half] = IGNORE
        swapped.append(batch._replace(tokens_BT=tokens_BT, targets_BT=targets_BT))
    return swapped


def losses_of(bits_RT: Tensor, hits_RT: Tensor, targets_RT: Tensor, *, token_bytes: Ints | None) -> DocumentLosses:
    """The losses of a document from bits and hits of its tokens; unscored targets are IGNORE."""
    scored_RT, length = targets_RT != IGNORE, bits_RT.shape[1]
    late = slice(length // 2, None)
    parts = [slice(length * p // PIECES, length * (p + 1) // PIECES) for p in range(PIECES)]
    per_byte = math.nan
    if token_bytes is not None:
        # IGNORE is negative and no index; multiplied by `scored_RT` such places count no bytes.
        bytes_RT = torch.as_tensor(token_bytes)[targets_RT.clamp(min=0)] * scored_RT
        per_byte = _ratio(bits_RT[:, late][scored_RT[:, late]].sum(), bytes_RT[:, late].sum())
    return DocumentLosses(
        late=_mean(bits_RT[:, late], scored_RT[:, late]),
        whole=_mean(bits_RT, scored_RT),
        pieces=[_mean(bits_RT[:, part], scored_RT[:, part]) for part in parts],
        late_per_byte=per_byte,
        exact=float((hits_RT | ~scored_RT).all(1).double().mean()),
    )


def gain(off: Sequence[DocumentLosses], on: Sequence[DocumentLosses]) -> dict[str, Any]:
    """What writes gain in the second half of documents, paired by document.

    `gain`: bits per token (above 0: writes help), with the 95 % t-interval over documents;
    `better`: how many documents gain.
    """
    paired = [x.late - y.late for x, y in zip(off, on, strict=True)]
    interval = t_interval(paired)
    # A write that destroys the model may give losses that are not finite.
    finite = all(math.isfinite(value) for value in paired)
    return {
        "documents": len(paired),
        "late_off": _average([x.late for x in off]),
        "late_on": _average([x.late for x in on]),
        "exact_off": _average([x.exact for x in off]),
        "exact_on": _average([x.exact for x in on]),
        "late_per_byte_off": _average([x.late_per_byte for x in off]),
        "late_per_byte_on": _average([x.late_per_byte for x in on]),
        "gain": interval.mean if finite else -math.inf,
        "half": interval.half if finite else math.nan,
        "better": sum(value > 0 for value in paired),
        "pieces": [_average([x.pieces[p] - y.pieces[p] for x, y in zip(off, on, strict=True)]) for p in range(PIECES)],
    }


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _mean(bits_RT: Tensor, scored_RT: Tensor) -> float:
    return _ratio(bits_RT[scored_RT].sum(), scored_RT.sum())


def _ratio(over: Tensor, under: Tensor) -> float:
    return float(over / under) if float(under) else math.nan
