"""What the reference loops of the adapters share: layouts of documents, and exact comparisons.

A reference reads one document of one row and returns what it reads and what it wrote, in plain loops
over tokens that call none of our kernels. The adapters read whole batches, plain ones and packed
ones with padding: this checks lanes, heads, chunks that start anew, and lifetimes as well.
Shapes: B lanes, T time (of one document), D model width, H heads, K head width, X any.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from tiny_adapters import LENGTH, batch_of, make, tokens
from torch import Tensor, nn

from ttt.learner import Learner
from ttt.models.cache import Cache
from ttt.models.nano import Nano
from ttt.stream import Batch

CHUNK, STEP = 4, 0.5
# One document per row, also longer than kernels take in one piece; documents of 24, 9 and 11
# tokens, with padding before, inside and after them.
PLAIN, LONG = (torch.zeros(2, length, dtype=torch.long) for length in (LENGTH - 2, 38))
PACKED = torch.tensor([[0] * LENGTH, [-1] * 2 + [0] * 5 + [-1] + [0] * 4 + [1] * 11 + [-1]])
LAYOUTS = [(LONG, "sequence"), (PACKED, "sequence"), (PACKED, "task")]
layouts = pytest.mark.parametrize(("segment_BT", "reset"), LAYOUTS, ids=["long", "packed", "packed-carried"])

Named = dict[str, Tensor]
close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6, check_dtype=False)


class StandIn(nn.Module):
    """One part of a model in its place; it reads `x_BTD`, whatever the tokens are."""

    def __init__(self, part: nn.Module, x_BTD: Tensor) -> None:
        super().__init__()
        self.part, self.x_BTD = part, x_BTD

    def forward(self, tokens_BT: Tensor, *, segment_BT: Tensor, cache: Cache | None) -> Tensor:
        return self.part(self.x_BTD)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def packed(seed: int, segment_BT: Tensor) -> Batch:
    return batch_of(tokens(seed, *segment_BT.shape), segment_BT)


def documents(segment_T: Tensor) -> Iterator[Tensor]:
    """The positions of each document's tokens."""
    for document in range(int(segment_T.max()) + 1):
        yield (segment_T == document).nonzero()[:, 0]


def chunks(length: int) -> Iterator[range]:
    for start in range(0, length, CHUNK):
        yield range(start, min(start + CHUNK, length))


def unit(x_K: Tensor) -> Tensor:
    return x_K / x_K.norm()


def rms(x_TD: Tensor, *, eps: float = torch.finfo(torch.float64).eps) -> Tensor:
    return x_TD / (x_TD.square().mean(-1, keepdim=True) + eps).sqrt()


def same_with_gradients(got_XD: Tensor, want_XD: Tensor, module: nn.Module, *, rtol: float, atol: float) -> None:
    """Compare what is read, and every learned parameter's gradient under a random one of the output."""
    close(got_XD, want_XD, rtol=rtol, atol=atol)
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    behind_XD, learned = normal(9, *got_XD.shape), list(parameters.values())
    # What nothing was read of has no gradient, or one of zeros: both count as zeros.
    grads = [
        torch.autograd.grad((x_XD * behind_XD).sum(), learned, allow_unused=True, materialize_grads=True)
        for x_XD in (got_XD, want_XD)
    ]
    for name, got, want in zip(parameters, *grads, strict=True):
        close(
            got, want, rtol=rtol, atol=atol * float(want.abs().max() + 1), msg=lambda text, name=name: f"{name}: {text}"
        )


def plain_of(learner: Learner) -> Nano:
    """A model without the adapter, with the same slow weights."""
    plain = make("none", window=learner.model.window).model
    assert not plain.load_state_dict(learner.model.state_dict(), strict=False).missing_keys
    return plain
