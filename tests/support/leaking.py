"""An adapter that counts the tokens it has read, honestly or with a leak.

    y_t = model_t + how often each token occurs in positions s <= t, and in the state

Shapes: B batch (lanes), T time (twice: a score's and a token's position), V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from tiny_adapters import VOCAB, make
from torch import Tensor, nn

from ttt.adapters.base import FastState, Reset
from ttt.adapters.none import NoAdapter
from ttt.learner import Learner
from ttt.models.cache import Cache
from ttt.stream import Batch

CHUNK = 4
# leak -> the positions s that the score at t counts; and without a leak.
SEEN = {
    "itself": lambda t, s: s <= t + 1,
    "chunk": lambda t, s: s // CHUNK <= t // CHUNK,
    "border": lambda t, s: (s <= t) | (s < t - t % CHUNK + 2),
    "twice": lambda t, s: s == s,
}


class Counting(NoAdapter):
    """The state is one count for each token; `leak` names what is wrong with it."""

    def __init__(self, *, reset: Reset, leak: str = "") -> None:
        super().__init__(name="counting")
        self.reset, self.leak = reset, leak
        self.earlier: FastState = {"counts": torch.zeros(1, VOCAB)}

    def initial(self) -> FastState:
        return self.earlier if self.leak == "task" else {"counts": torch.zeros(1, VOCAB)}

    def read(
        self, model: nn.Module, batch: Batch, state: FastState, *, write: bool, cache: Cache | None = None
    ) -> tuple[Tensor, FastState]:
        logits_BTV = model(batch.tokens_BT, segment_BT=batch.segment_BT, cache=cache)
        if not write and self.leak != "off":
            return logits_BTV + state["counts"][:, None], state
        one_BTV = F.one_hot(batch.targets_BT if self.leak == "targets" else batch.tokens_BT, VOCAB).float()
        if self.leak != "padding":
            one_BTV = one_BTV * (batch.segment_BT >= 0)[..., None]
        read_BTV = self._seen(batch) @ one_BTV
        start_BV = self._start(state, streaming=cache is not None)
        logits_BTV = logits_BTV + read_BTV + start_BV[:, None]
        if self.leak == "lanes":
            logits_BTV = logits_BTV + read_BTV.roll(1, 0)
        after = {"counts": start_BV + one_BTV.sum(1)}
        if self.leak == "in place":
            state["counts"] += 1
        self.earlier = {"counts": after["counts"].mean(0, keepdim=True)}
        return logits_BTV, after

    def carry(self, state: FastState) -> FastState:
        return state

    def _start(self, state: FastState, *, streaming: bool) -> Tensor:
        if self.leak == "memory":
            return self.earlier["counts"]
        starts_anew = self.reset == "sequence" and not streaming and self.leak != "sequence"
        return state["counts"] * (not (starts_anew or (streaming and self.leak == "pieces")))

    def _seen(self, batch: Batch) -> Tensor:
        """Which tokens each score counts, [B, T, T]."""
        t = torch.arange(batch.tokens_BT.shape[1])
        seen_TT = SEEN.get(self.leak, lambda t, s: s <= t)(t[:, None], t[None, :])
        same_BTT = batch.segment_BT[:, :, None] == batch.segment_BT[:, None, :]
        crosses = self.reset != "sequence" or self.leak in ("documents", "padding")
        return (seen_TT & (same_BTT | crosses)).float()


def counting(*, reset: Reset = "task", leak: str = "") -> Learner:
    """A learner in fp32 with this adapter."""
    learner = make("none").float()
    adapter: Any = Counting(reset=reset, leak=leak)
    learner.adapter, learner.fast = adapter, adapter.initial()
    return learner
