"""Sequences that are read again with other tokens in some places: which scores move.

Shapes: R rows (lanes), T time, L = T + 1 tokens (the last is only a target), V vocabulary,
N flips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import OPEN, FastState, Mode
from ttt.learner import Learner
from ttt.stream import Batch


@dataclass(frozen=True)
class Start:
    """How sequences are read in one mode: from which state, and whether they are written."""

    mode: Mode
    state: FastState
    write: bool


@dataclass(frozen=True)
class Passage:
    """Rows of tokens as one reading has them; a negative entry of `segment_RT` is padding."""

    token_RL: Tensor
    segment_RT: Tensor

    @classmethod
    def of(cls, token_RT: Tensor) -> Passage:
        """Rows of one document each. The target of a row's last position is its first token."""
        return cls(torch.cat([token_RT, token_RT[:, :1]], 1), torch.zeros_like(token_RT))

    @property
    def batch(self) -> Batch:
        return Batch(self.token_RL[:, :-1], self.token_RL[:, 1:], self.segment_RT)

    def rows(self, index: Sequence[int]) -> Passage:
        return Passage(self.token_RL[index], self.segment_RT[index])

    def cut(self, segment_T: Tensor) -> Passage:
        """The same tokens in other documents."""
        return Passage(self.token_RL, segment_T.to(self.segment_RT).expand_as(self.segment_RT))

    def flipped(self, flip_RL: Tensor, *, vocab: int) -> Passage:
        """The same documents with another token wherever `flip_RL` is true."""
        # A generator of its own, so that no random number of the run is used up.
        draws_RL = torch.randint(1, max(vocab, 2), self.token_RL.shape, generator=torch.Generator().manual_seed(0))
        # 1 .. V - 1 further, modulo V, is never the token itself.
        other_RL = (self.token_RL + draws_RL.to(self.token_RL)) % vocab
        return Passage(torch.where(flip_RL.to(self.token_RL.device), other_RL, self.token_RL), self.segment_RT)


class Reading:
    """The scores (logits) of a text, and how far they move when the text is read differently.

    Both readings have the same shape and every row keeps its place, so that arithmetic rounds
    alike: scores that do not depend on a flipped token stay equal bit for bit.
    """

    def __init__(self, learner: Learner, start: Start, text: Passage) -> None:
        self._learner, self._start, self.text = learner, start, text
        self.logits_RTV, after = learner(text.batch, start.state, write=start.write)
        if not self.logits_RTV.isfinite().all():
            raise ValueError("scores are not finite: there is nothing to compare")
        # The end of a batch closes its chunks, as it does in the stream.
        self.after: FastState = {name: x for name, x in after.items() if not name.startswith(OPEN)}
        self._scale = float(self.logits_RTV.abs().max())

    def change(self, logits_RTV: Tensor) -> Tensor:
        """The largest change at each position [R, T], as a share of the largest score."""
        return ((logits_RTV - self.logits_RTV).abs().amax(-1) / self._scale).float().cpu()

    def again(self, state: FastState) -> Tensor:
        """The change when the same text is read once more, from `state`."""
        return self.change(self._learner(self.text.batch, state, write=self._start.write)[0])

    def moved_by(self, flip_RL: Tensor) -> Tensor:
        """The change when these tokens are replaced."""
        batch = self.text.flipped(flip_RL, vocab=vocab_of(self._learner)).batch
        return self.change(self._learner(batch, self._start.state, write=self._start.write)[0])


def vocab_of(learner: Learner) -> int:
    """How many tokens its model can read."""
    count: int = learner.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    return count


@dataclass(frozen=True)
class Flip:
    """The token at place `at` is replaced; with `onward`, all after it as well."""

    at: int
    onward: bool


def moved_by_each(reading: Reading, flips: Sequence[Flip]) -> Tensor:
    """The change at each position by each flip, [N, T]; each row of the text takes one flip."""
    rows, length = reading.text.token_RL.shape
    place_L = torch.arange(length)
    changes = []
    for i in range(0, len(flips), rows):
        # The last rows of the last reading take no flip: they only keep its shape.
        some = flips[i : i + rows]
        flip_RL = torch.zeros(rows, length, dtype=torch.bool)
        for row, flip in enumerate(some):
            flip_RL[row] = place_L >= flip.at if flip.onward else place_L == flip.at
        changes.append(reading.moved_by(flip_RL)[: len(some)])
    return torch.cat(changes)


def places(length: int, *, chunk: int | None, count: int) -> list[int]:
    """Up to `count` places to flip, of 1 .. length: the ends, the borders of chunks, then evenly.

    Before place 0 nothing is scored; the token at `length` is only the target of the last position.
    """
    borders = range(chunk or length, length, chunk or length)
    # The place behind a border reads what the chunk has written: leaks show there first.
    near = [border + step for step in (1, 0, -1, 2) for border in borders]
    even = torch.linspace(1, length, min(count, length)).long().tolist()
    # A dict drops repetitions and keeps the order.
    ordered = dict.fromkeys(place for place in (length, length - 1, 1, *near, *even) if 1 <= place <= length)
    return sorted(list(ordered)[:count])


def profile(change_NT: Tensor, at_N: Sequence[int]) -> list[float]:
    """The largest change at each distance from the flip, from -T to T."""
    length = change_NT.shape[1]
    # Changes are shifted so that each flip stands in the middle of 2 T + 1 places.
    shifted = [F.pad(change_T, (length - at, at + 1)) for change_T, at in zip(change_NT, at_N, strict=True)]
    distances: list[float] = torch.stack(shifted).amax(0).tolist()
    return distances
