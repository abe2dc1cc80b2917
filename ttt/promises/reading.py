"""What adapters and models promise about reading: scores and states depend on what they may.

    tokens     a b c d    the score of d does not move with d, nor with what comes after it
    padding    . . a b    reads as  a b
    packed     a b|c d    reads as  a b  and  c d, where documents share no fast weights
    pieces     a|b c|d    read one after another, read as  a b c d

Shapes: B batch (lanes), T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.learner import Learner, Reader, slow_hash
from ttt.probes.causality import ProbeSizes, Verdict, probe_causality
from ttt.probes.checks import PADDING, TOLERANCE, copied, difference
from ttt.promises.ruling import HOLDS, Ruling, broken, first_broken, not_given, same_scores, same_tensors
from ttt.stream import Batch

# Places that the probe flips, and rows that it flips at once.
PLACES, ROWS = 24, 8


@dataclass(frozen=True)
class ReadingCase:
    """A learner, and sequences to read with it.

    `chunk`: the adapter's, None for one without. `tolerance`: how far a score may move where
    another shape rounds differently, as a share of the largest score.
    """

    learner: Learner
    token_BT: Tensor
    chunk: int | None = None
    tolerance: float = TOLERANCE

    def read(self, token_BT: Tensor, segment_BT: Tensor | None = None, *, write: bool = True) -> Tensor:
        """Logits from the initial state."""
        return self.run(passage(token_BT, segment_BT), write=write)[0]

    @torch.no_grad()
    def run(self, batch: Batch, state: FastState | None = None, *, write: bool = True) -> tuple[Tensor, FastState]:
        start = self.learner.adapter.initial() if state is None else state
        return self.learner(batch, start, write=write)

    @cached_property
    def whole(self) -> tuple[Tensor, FastState]:
        """The sequences read at once, as all else is compared with."""
        return self.run(passage(self.token_BT))

    @cached_property
    def verdict(self) -> Verdict:
        """What flipped tokens move, in every mode."""
        length = self.token_BT.shape[1]
        sizes = ProbeSizes(length=length, places=min(PLACES, length), rows=ROWS)
        return probe_causality(self.learner, self.token_BT, chunk=self.chunk, sizes=sizes)


def passage(token_BT: Tensor, segment_BT: Tensor | None = None) -> Batch:
    """A batch of these tokens, one document a row unless `segment_BT` says otherwise."""
    segment_BT = torch.zeros_like(token_BT) if segment_BT is None else segment_BT
    return Batch(token_BT, token_BT.roll(-1, 1), segment_BT)


def order(case: ReadingCase) -> Ruling:
    """No token moves a score that comes before it, in any mode."""
    return _flipped(case, "token itself", "later tokens", "end to beginning", "packed documents")


def lifetime(case: ReadingCase) -> Ruling:
    """Fast weights end with their lifetime: with the sequence, its document, or the task."""
    if not case.learner.adapter.initial():
        return not_given("it has no fast weights")
    return _flipped(case, "next task", "next sequence", "other documents")


def _flipped(case: ReadingCase, *checks: str) -> Ruling:
    """What these checks of the probe say: the largest leak in any mode."""
    leaks = [check for check in case.verdict.leaks if check.what in checks]
    worst = max(leaks, key=lambda check: check.size, default=None)
    return HOLDS if worst is None else broken(f"mode {worst.mode}: {worst.where} moves by {worst.size:.2g}")


def writes(case: ReadingCase) -> Ruling:
    """Writes off change no state, whatever it holds; writes on change it."""
    if not case.learner.adapter.initial():
        return not_given("it has no fast weights")
    # An open chunk belongs to a batch in the middle of a sequence.
    after = case.learner.adapter.carry(case.whole[1])
    if not any(bool(x.any()) for x in after.values()):
        return broken("reading with writes on leaves a state of zeros")
    # This is a copy, because a part that writes in place would change both.
    before = copied(after)
    # These are not the sequences that wrote the state,
    # of which a second reading might change nothing.
    _, left = case.run(passage(case.token_BT.flip(1)), after, write=False)
    moved = difference(left, before)
    return broken(f"a state moves by {moved:.2g} with writes off") if moved else _flipped(case, "writes off")


def packed_documents(case: ReadingCase) -> Ruling:
    """Packed documents read as they do one by one."""
    reset, length = case.learner.adapter.reset, case.token_BT.shape[1]
    if reset != "sequence":
        return not_given(f"with reset={reset} the documents of a row share their fast weights")
    # A border that is not that of a chunk.
    cut = length // 2 - 1
    segment_BT = (torch.arange(length) >= cut).long().expand_as(case.token_BT)
    packed_BTV = case.read(case.token_BT, segment_BT)
    parts = ((packed_BTV[:, :cut], case.token_BT[:, :cut]), (packed_BTV[:, cut:], case.token_BT[:, cut:]))
    where = (" of the first of two documents", " of the second of two documents")
    return first_broken(
        *(
            same_scores(logits_BTV, case.read(token_BT), tolerance=case.tolerance, where=which)
            for (logits_BTV, token_BT), which in zip(parts, where, strict=True)
        )
    )


def padding(case: ReadingCase) -> Ruling:
    """Padding before or after a row changes no score, and no state."""
    (rows, length), (whole_BTV, after) = case.token_BT.shape, case.whole
    for left, right in ((PADDING, 0), (0, 2), (PADDING + 2, PADDING + 1)):
        inside = slice(left, left + length)
        token_BT = torch.zeros(rows, left + length + right, dtype=torch.long)
        segment_BT = torch.full_like(token_BT, -1)
        # Any document number will do: only equal ones mean something.
        token_BT[:, inside], segment_BT[:, inside] = case.token_BT, 7
        logits_BTV, state = case.run(passage(token_BT, segment_BT))
        where = f" with {left} positions of padding before and {right} after it"
        scores = same_scores(logits_BTV[:, inside], whole_BTV, tolerance=case.tolerance, where=where)
        ruling = first_broken(scores, _close(state, after, tolerance=case.tolerance, where=where))
        if not ruling.holds:
            return ruling
    return _flipped(case, "left padding")


def lanes(case: ReadingCase) -> Ruling:
    """A row reads the same alone and beside others."""
    # Each row by itself has another shape, which may round differently.
    alone_BTV = torch.cat([case.read(row_1T) for row_1T in case.token_BT.split(1)])
    beside = same_scores(case.whole[0], alone_BTV, tolerance=case.tolerance, where=" beside other rows")
    return first_broken(beside, _flipped(case, "other rows"))


def in_pieces(case: ReadingCase) -> Ruling:
    """Read in pieces, each by a reader of its own, sequences read as they do at once."""
    length = case.token_BT.shape[1]
    # One document, and two whose border lies inside a piece.
    packed_BT = (torch.arange(length) >= length // 2 - 1).long().expand_as(case.token_BT)
    for segment_BT in (torch.zeros_like(case.token_BT), packed_BT):
        whole_BTV = case.read(case.token_BT, segment_BT)
        for sizes in _cuts(length, case.chunk):
            logits_BTV = _read_pieces(case, segment_BT, sizes)
            where = f" in pieces of {', '.join(map(str, sizes[:4]))}{', ...' if len(sizes) > 4 else ''}"
            ruling = same_scores(logits_BTV, whole_BTV, tolerance=case.tolerance, where=where)
            if not ruling.holds:
                return ruling
    return _flipped(case, "in pieces", "states of pieces")


def _cuts(length: int, chunk: int | None) -> list[list[int]]:
    """Sizes of pieces that end at, before and behind the borders of chunks."""
    size = min(chunk or length // 3, length // 3)
    rest = length - 2 * size - 1
    return [[length], [1] * length, [size - 1, 1, size + 1, rest], [size, size, rest, 1], [rest, *[1] * (2 * size + 1)]]


def _read_pieces(case: ReadingCase, segment_BT: Tensor, sizes: Sequence[int]) -> Tensor:
    # A new reader for each piece: what it needs must be in what the last one exported.
    reader, logits, at = Reader(case.learner), [], 0
    for size in sizes:
        piece = slice(at, at + size)
        logits.append(reader.read(case.token_BT[:, piece], segment_BT=segment_BT[:, piece]))
        exported, reader, at = reader.export(), Reader(case.learner), at + size
        reader.restore(exported)
    return torch.cat(logits, 1)


def same_again(case: ReadingCase) -> Ruling:
    """The same sequences give the same scores and states, bit for bit."""
    logits_BTV, state = case.run(passage(case.token_BT))
    return first_broken(
        same_scores(logits_BTV, case.whole[0], tolerance=0, where=" when read again"),
        same_tensors(state, case.whole[1], where=" when read again"),
        _flipped(case, "second reading"),
    )


def evaluation(case: ReadingCase) -> Ruling:
    """An evaluation moves no slow weight, no state that it starts from, and no random number."""
    learner = case.learner
    slow, chance = slow_hash(learner.model), torch.get_rng_state()
    start = learner.adapter.initial()
    state, carried = copied(start), copied(learner.fast)
    case.run(passage(case.token_BT), start)
    if slow_hash(learner.model) != slow:
        return broken("a slow weight moves while sequences are read")
    if not torch.equal(torch.get_rng_state(), chance):
        return broken("torch's generator moves while sequences are read")
    return first_broken(
        same_tensors(start, state, where=" of the state that a reading started from"),
        same_tensors(learner.fast, carried, where=" of the state that the stream carries"),
        _flipped(case, "state read from"),
    )


def _close(state: FastState, expected: FastState, *, tolerance: float, where: str) -> Ruling:
    """States of two readings whose shapes round differently."""
    for name, x in expected.items():
        largest = float((state[name] - x).abs().max()) if x.numel() else 0.0
        # `not <=` counts NaN as a difference; states near zero are held to an absolute bound.
        if not largest <= tolerance * max(float(x.abs().max()) if x.numel() else 0.0, 1.0):
            return broken(f"{name}{where}: differs by {largest:.2g}")
    return HOLDS


# What every model promises; and, beside it, every adapter whose fast weights are written while
# reading.
OF_MODELS = {
    "no token moves a score before it": order,
    "packed documents read as separate ones": packed_documents,
    "padding changes nothing": padding,
    "rows do not touch each other": lanes,
    "read in pieces is read at once": in_pieces,
    "read again is the same to the bit": same_again,
    "an evaluation leaves weights and chance alone": evaluation,
}
OF_ADAPTERS = OF_MODELS | {"fast weights end with their lifetime": lifetime, "writes off write nothing": writes}
