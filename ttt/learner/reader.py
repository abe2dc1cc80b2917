"""Reading in pieces: a learner that is handed tokens as they come, one or many at a time.

A `read` of a whole sequence equals any number of `read`s of its parts: prefill and decoding are the
same. Shapes: B lanes, T time, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.learner.learner import Learner
from ttt.learner.sampling import Sampling
from ttt.models.cache import PADDING, Cache
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
        self._cache = Cache(exact=False)

    @torch.no_grad()
    def read(self, tokens_BT: Tensor, *, segment_BT: Tensor | None = None, last: bool = False) -> Tensor:
        """Next-token logits [B, T, V]; `segment_BT`: the document of each token (default: 0).

        With `last`, only those of the last position, [B, 1, V]: all that generating needs. Raises
        ValueError for tokens of another shape.
        """
        if tokens_BT.dim() != 2 or not tokens_BT.numel():
            raise ValueError(f"tokens of shape {[*tokens_BT.shape]}: must be [lanes, tokens], at least one of each")
        segment_BT = torch.zeros_like(tokens_BT) if segment_BT is None else segment_BT
        # Nothing is scored here: targets only say where logits are wanted.
        targets_BT, leaves_out = tokens_BT, last and tokens_BT.shape[1] > 1
        if leaves_out:
            targets_BT = tokens_BT.clone()
            targets_BT[:, :-1] = IGNORE
        batch = Batch(tokens_BT, targets_BT, segment_BT)
        logits, self._state = self._learner(batch, self._state, write=self._write, cache=self._cache, scored=leaves_out)
        logits_BTV: Tensor = logits[:, None] if logits.dim() == 2 else logits
        return logits_BTV[:, -1:] if last else logits_BTV

    def generate(self, tokens_BT: Tensor, *, tokens: int, sampling: Sampling | None = None) -> Tensor:
        """Read `tokens_BT`, then write `tokens` tokens behind it in each lane, [B, `tokens`].

        It reads what it writes, so fast weights go on learning; all but the last token of a lane:
        what the lane reads next begins with that one. A lane ends with a token of `sampling.stop`,
        and -1 fills it up. By default the likeliest tokens are written.
        """
        sampling = sampling or Sampling()
        generator = torch.Generator().manual_seed(sampling.seed)
        stop = torch.tensor(list(sampling.stop), device=tokens_BT.device, dtype=torch.long)
        ends_B = torch.zeros(len(tokens_BT), dtype=torch.bool, device=tokens_BT.device)
        # A lane that has ended reads padding, which changes nothing in it.
        next_BT, segment_BT = tokens_BT, torch.zeros_like(tokens_BT)
        written: list[Tensor] = []
        # One read a token: what was written last is read when the next one is wanted.
        while len(written) < tokens and not bool(ends_B.all()):
            logits_B1V = self.read(next_BT.clamp(min=0), segment_BT=segment_BT, last=True)
            next_BT = sampling.pick(logits_B1V[:, -1], generator).masked_fill(ends_B, PADDING)[:, None]
            written.append(next_BT)
            ends_B = ends_B | torch.isin(next_BT[:, 0], stop)
            segment_BT = torch.where(ends_B, PADDING, 0)[:, None]
        written_BT = torch.cat(written, 1) if written else tokens_BT[:, :0]
        return F.pad(written_BT, (0, tokens - written_BT.shape[1]), value=PADDING)

    def export(self) -> dict[str, Tensor]:
        """All that the reader remembers, as named tensors: fast weights, open chunks, attention."""
        fast = {FAST + name: x for name, x in self._state.items()}
        return fast | {ATTENTION + name: x for name, x in self._cache.tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `export` returned, in this process or in another."""
        self._state = {name.removeprefix(FAST): x for name, x in tensors.items() if name.startswith(FAST)}
        attention = {name.removeprefix(ATTENTION): x for name, x in tensors.items() if name.startswith(ATTENTION)}
        self._cache = Cache(exact=False, tensors=attention)
