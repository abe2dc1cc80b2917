"""Tensors that cross from the process of earlier tokens to that of later ones, and their gradients,
which cross back.

torch's own context parallelism knows attention alone; here any named tensors cross, between any two
layers of a pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# The size of a header, which comes before the tensors of a message: their names, types and shapes.
HEADER_BYTES = 2048
# The most tensors of one message; each has a tag of its own.
TAGS = 32
# A send ends when the other process takes it: its tensor must live until then.
Sends = list[tuple[Any, Tensor]]


class Relay:
    """The messages of one pass: `source` holds the tokens before these, `target` those after them.

    Both ends of a message count it, so that its gradient finds the same number on its way back.
    `sends`: where sends are noted that may not have ended.
    """

    def __init__(self, *, source: int | None, target: int | None, device: torch.device, sends: Sends) -> None:
        self._source, self._target, self._device = source, target, device
        self._received, self._sent = count(), count()
        self._sends = sends
        self._ties: list[Tensor] = []

    def receive(self) -> dict[str, Tensor] | None:
        """What the process of the earlier tokens sent next; None for the first process."""
        if self._source is None:
            return None
        number = next(self._received)
        header = self._take([_shaped([HEADER_BYTES], torch.uint8)], self._source, number, first=0)[0]
        entries = json.loads(bytes(header.tolist()).rstrip(b"\0"))
        like = [_shaped(shape, getattr(torch, dtype)) for _, dtype, shape in entries]
        tensors = self._take(like, self._source, number, first=1)
        if torch.is_grad_enabled():
            tie, *tensors = _Received.apply(self._zero(), self, number, *tensors)
            self._ties.append(tie)
        return {name: x for (name, _, _), x in zip(entries, tensors, strict=True)}

    def send(self, tensors: Mapping[str, Tensor]) -> None:
        """Send named tensors to the process of the later tokens, if there is one."""
        if self._target is None:
            return
        number = next(self._sent)
        assert len(tensors) < TAGS
        if torch.is_grad_enabled():
            names = list(tensors)
            self._ties.append(_Sent.apply(self._zero(), self, number, names, *tensors.values()))
        else:
            self.post(tensors, number)

    def tie(self) -> Tensor:
        """Zero, to be added to the loss: gradients then cross for every message, used or not."""
        return torch.stack(self._ties).sum() if self._ties else torch.zeros((), device=self._device)

    def post(self, tensors: Mapping[str, Tensor], number: int) -> None:
        """Send a header and tensors."""
        entries = [[name, str(x.dtype).removeprefix("torch."), list(x.shape)] for name, x in tensors.items()]
        text = json.dumps(entries).encode()
        assert self._target is not None
        assert len(text) <= HEADER_BYTES
        header = torch.tensor(list(text.ljust(HEADER_BYTES, b"\0")), dtype=torch.uint8)
        self._put([header, *tensors.values()], self._target, number)

    def give_back(self, grads: Sequence[Tensor], number: int) -> None:
        """Send the gradients of a message to where it came from."""
        assert self._source is not None
        self._put(grads, self._source, number)

    def take_back(self, like: Sequence[Tensor], number: int) -> list[Tensor]:
        """Receive the gradients of a message from where it went."""
        assert self._target is not None
        return self._take(like, self._target, number, first=0)

    def _zero(self) -> Tensor:
        # An input that needs a gradient makes autograd call `backward`, whatever the tensors need.
        return torch.zeros((), device=self._device, requires_grad=True)

    def _put(self, tensors: Sequence[Tensor], rank: int, number: int) -> None:
        for i, x in enumerate(tensors):
            whole = x.detach().to(self._device).contiguous()
            self._sends.append((dist.isend(whole, rank, tag=number * TAGS + i), whole))

    def _take(self, like: Sequence[Tensor], rank: int, number: int, *, first: int) -> list[Tensor]:
        tensors = [torch.empty(x.shape, dtype=x.dtype, device=self._device) for x in like]
        works = [dist.irecv(x, rank, tag=number * TAGS + i) for i, x in enumerate(tensors, first)]
        for work in works:
            assert work is not None
            work.wait()
        return tensors


def _shaped(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor that has this shape and type, and takes no memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


class _Received(torch.autograd.Function):
    """The tensors of a message, whose gradients go back to the sender."""

    @staticmethod
    def forward(ctx: Any, zero: Tensor, relay: Relay, number: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.relay, ctx.number, ctx.floating = relay, number, [x.is_floating_point() for x in tensors]
        copies = [x.view_as(x) for x in tensors]
        ctx.mark_non_differentiable(*(x for x in copies if not x.is_floating_point()))
        return zero.clone(), *copies

    @staticmethod
    def backward(ctx: Any, _: Tensor, *grads: Tensor) -> tuple[None, ...]:
        floating = [grad for grad, is_floating in zip(grads, ctx.floating, strict=True) if is_floating]
        ctx.relay.give_back(floating, ctx.number)
        return (None,) * (3 + len(grads))


class _Sent(torch.autograd.Function):
    """Zero; its backward waits for the gradients of what was sent."""

    @staticmethod
    def forward(ctx: Any, zero: Tensor, relay: Relay, number: int, names: list[str], *tensors: Tensor) -> Tensor:
        ctx.relay, ctx.number = relay, number
        ctx.like = [_shaped(x.shape, x.dtype) for x in tensors]
        relay.post(dict(zip(names, tensors, strict=True)), number)
        return zero.clone()

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        floating = [x for x in ctx.like if x.is_floating_point()]
        grads = iter(ctx.relay.take_back(floating, ctx.number))
        return None, None, None, None, *(next(grads) if x.is_floating_point() else None for x in ctx.like)
