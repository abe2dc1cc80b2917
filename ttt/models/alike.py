"""Decoding where all lanes are alike: keys and values lie in buffers, filled token by token.

Shapes: B batch (lanes), S kept tokens, A = S + 1 all keys, R tokens for which a buffer has room,
H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Where nobody says how many tokens come, a buffer has room for as many as are in it when it is
# allocated, or for this many: then a token moves few others.
MORE = 64


class Room:
    """A buffer for the keys or values of tokens that come one by one.

    Only slots behind the filled ones are written, so that views of those never change. `more`:
    tokens to come.
    """

    def __init__(self, old_BHSK: Tensor, *, more: int | None = None) -> None:
        batch, heads, self._end, width = old_BHSK.shape
        room = max(self._end, MORE)
        # Slots that stay empty cost time as well: they lie between those that are filled, so that
        # more pages of memory are touched.
        slots = self._end + (room if more is None else min(more, room))
        self._buffer_BHRK = old_BHSK.new_empty(batch, heads, slots, width)
        self._buffer_BHRK[:, :, : self._end] = old_BHSK

    def has_space(self) -> bool:
        return self._end < self._buffer_BHRK.shape[2]

    def append(self, new_BH1K: Tensor) -> None:
        self._buffer_BHRK.narrow(2, self._end, 1).copy_(new_BH1K)
        self._end += 1

    def last(self, length: int) -> Tensor:
        """The newest `length` tokens, [B, H, length, K]."""
        return self._buffer_BHRK.narrow(2, self._end - length, length)


class AlikeLanes:
    """The last `kept` tokens before position `end`, all of one document, in every lane."""

    def __init__(self, tensors: Mapping[str, Tensor], *, document: int, end: int, more: int | None) -> None:
        position_BS = tensors["position"]
        self._lanes, self._kept = position_BS.shape
        self._document, self._end, self._device = document, end, position_BS.device
        self._rooms = {name: Room(x, more=more) for name, x in tensors.items() if x.dim() == 4}
        self._seen = self._kept

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, more: int | None = None) -> AlikeLanes | None:
        """Return what is kept, if all lanes are alike and nothing is missing; else None."""
        if "position" not in tensors or not tensors["position"].numel():
            return None
        position_BS, segment_BS = tensors["position"], tensors["segment"]
        end, document = int(position_BS[0, -1]) + 1, int(segment_BS[0, -1])
        expected_S = torch.arange(end - position_BS.shape[1], end, device=position_BS.device)
        is_even = (position_BS == expected_S).all() & (segment_BS == document).all()
        is_alike = document >= 0 and bool(is_even)
        return cls(tensors, document=document, end=end, more=more) if is_alike else None

    def goes_on(self, segment_B1: Tensor) -> bool:
        """Does every lane read one more token of the document?"""
        return bool(segment_B1.tolist() == [[self._document]] * self._lanes)

    def open(self, window: int | None) -> Tensor:
        """Make room for the next token; return its position, the same for all lanes, [1, 1]."""
        self._seen = self._kept + 1
        assert window is None or self._seen <= window, "a cache is opened with one window"
        self._kept = self._seen if window is None else min(self._seen, window - 1)
        self._end += 1
        return torch.full((1, 1), self._end - 1, device=self._device)

    def mask(self, window: int | None) -> Tensor:
        """Return [1, 1, 1, A] of bool: which keys the token sees through this window."""
        mask_111A = torch.ones(1, 1, 1, self._seen, dtype=torch.bool, device=self._device)
        if window is not None and window < self._seen:
            mask_111A[..., : self._seen - window] = False
        return mask_111A

    def extend(self, name: str, new_BH1K: Tensor) -> Tensor:
        """Return all keys or values that the token may look at, its own included."""
        room = self._rooms[name]
        if not room.has_space():
            room = self._rooms[name] = Room(room.last(self._seen - 1))
        room.append(new_BH1K)
        return room.last(self._seen)

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by name, as `of` takes it."""
        position_BS = torch.arange(self._end - self._kept, self._end, device=self._device).expand(self._lanes, -1)
        rest = {"position": position_BS, "segment": torch.full_like(position_BS, self._document)}
        return rest | {name: room.last(self._kept) for name, room in self._rooms.items()}
