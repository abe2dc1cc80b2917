"""Reading in pieces: a learner that is handed tokens as they come, one or many at a time.

A `read` of a whole sequence equals any number of `read`s of its parts: prefill and decoding are the
same. Shapes: B lanes, T time, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.learner.learner import Learner
from ttt.models.cache import Cache
from ttt.stream import IGNORE, Batch

FAST, ATTENTION = "fast.", "attention."


class Reader:
    """Lanes that are read side by side, each with fast weights of its own, written while it reads.

    `state`: what the fast weights start from (None: zero). Slow weights never change. Padding (a
    negative entry of `segment_BT`) changes nothing in its lane, so that each lane may stop and go
    on by itself.
    """

    def __init__(self, learner: Learner, *, state: FastState | None = None, write: bool = True) -> None:
        self._learner, self._write = learner, write
        self._state = learner.adapter.initial() if state is None else state
        self._cache = Cache()

    @torch.no_grad()
    def read(self, tokens_BT: Tensor, *, segment_BT: Tensor | None = None, last: bool = False) -> Tensor:
        """Next-token logits [B, T, V]; `segment_BT`: the document of each token (default: 0).

        With `last`, only those of the last position, [B, 1, V]: all that generating needs.
        """
        segment_BT = torch.zeros_like(tokens_BT) if segment_BT is None else segment_BT
        # Nothing is scored here: targets only say where logits are wanted.
        targets_BT = tokens_BT.clone()
        if last:
            targets_BT[:, :-1] = IGNORE
        batch = Batch(tokens_BT, targets_BT, segment_BT)
        logits, self._state = self._learner(batch, self._state, write=self._write, cache=self._cache, scored=last)
        logits_BTV: Tensor = logits[:, None] if logits.dim() == 2 else logits
        return logits_BTV[:, -1:] if last else logits_BTV

    def export(self) -> dict[str, Tensor]:
        """All that the reader remembers, as named tensors: fast weights, open chunks, attention."""
        fast = {FAST + name: x for name, x in self._state.items()}
        return fast | {ATTENTION + name: x for name, x in self._cache.tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `export` returned, in this process or in another."""
        self._state = {name.removeprefix(FAST): x for name, x in tensors.items() if name.startswith(FAST)}
        attention = {name.removeprefix(ATTENTION): x for name, x in tensors.items() if name.startswith(ATTENTION)}
        self._cache = Cache(tensors=attention)
