"""One sequence over several processes: process r of P reads tokens r T / P up to (r + 1) T / P.

What later tokens need of earlier ones crosses once in each layer, from process r to process r + 1:
the keys and values that they may still attend to, and the fast state (ttt/devices/relay.py).
Shapes: B batch (lanes), T tokens of this process, S earlier tokens inside the window, A = S + T,
H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ttt.devices.relay import Relay, Sends
from ttt.kernels.chunks import Place, chunk_grid
from ttt.models.cache import Cache
from ttt.models.nano import attend
from ttt.stream import Batch


class Context:
    """The place of a process among the `size` processes that share its rows."""

    def __init__(self, rank: int, *, size: int) -> None:
        self.size, self.at = size, rank % size
        self.source = rank - 1 if self.at else None
        self.target = None if self.at + 1 == size else rank + 1
        self._sends: Sends = []

    def cut(self, batch: Batch) -> tuple[Batch, Span]:
        """The tokens of this process, and what they share with the others in this pass."""
        length, rest = divmod(batch.segment_BT.shape[1], self.size)
        assert rest == 0, "processes read equally many tokens"
        start = self.at * length
        here = slice(start, start + length)
        part = batch._replace(
            tokens_BT=batch.tokens_BT[:, here],
            targets_BT=batch.targets_BT[:, here],
            segment_BT=batch.segment_BT[:, here],
        )
        # A send may outlive its pass: the last gradients go on their way as the pass ends.
        for work, _ in self._sends:
            work.wait()
        self._sends.clear()
        device = batch.tokens_BT.device
        relay = Relay(source=self.source, target=self.target, device=device, sends=self._sends)
        return part, Span(batch.segment_BT, start=start, length=length, relay=relay)

    def last(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """States whose mean over all processes is that of the last ones of each sequence."""
        factor = self.size if self.target is None else 0
        return {name: factor * x for name, x in state.items()}


class Span(Cache):
    """The tokens of one process in one pass, which attend to those of earlier processes.

    Unlike in the cache of a reader, all lanes stand at one place, padding included.
    """

    def __init__(self, segment_BT: Tensor, *, start: int, length: int, relay: Relay) -> None:
        super().__init__()
        self.relay = relay
        self._all_BT, self._start, self._length = segment_BT, start, length
        self._window: int | None = None

    @property
    def has_earlier(self) -> bool:
        """Do other processes hold tokens before these?"""
        return self._start > 0

    def place(self, chunk: int) -> Place | None:
        """Where the chunks of the earlier tokens stop; None where there are none."""
        return chunk_grid(self._all_BT[:, : self._start], chunk).end if self._start else None

    def is_aligned(self, chunk: int) -> bool:
        """Does no chunk lie on two processes?"""
        whole = (self._all_BT == self._all_BT[:, :1]).all() & (self._all_BT[:, :1] >= 0).all()
        return self._length % chunk == 0 and bool(whole)

    def open(self, segment_BT: Tensor, *, window: int | None, prefix: int = 0) -> None:
        assert prefix == 0, "a prefix stands before whole rows"
        self._window = window
        here_T = torch.arange(self._start, self._start + self._length, device=segment_BT.device)
        self.position_BQ = here_T.expand(len(segment_BT), -1)

    def attend(self, name: str, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
        k_BHAK, v_BHAK = self.extend(name, k_BHTK, v_BHTK)
        end = self._start + self._length
        segment_BA = self._all_BT[:, end - k_BHAK.shape[2] : end]
        return attend(q_BHTK, k_BHAK, v_BHAK, window=self._window, segment_BA=segment_BA)

    def extend(self, name: str, k_BHQK: Tensor, v_BHQK: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of the earlier and the own tokens; send on what later ones see."""
        received = self.relay.receive()
        if received is not None:
            k_BHQK, v_BHQK = (torch.cat([received[key], x], 2) for key, x in (("k", k_BHQK), ("v", v_BHQK)))
        seen = k_BHQK.shape[2] if self._window is None else min(self._window - 1, k_BHQK.shape[2])
        first = k_BHQK.shape[2] - seen
        self.relay.send({"k": k_BHQK[:, :, first:], "v": v_BHQK[:, :, first:]})
        return k_BHQK, v_BHQK
