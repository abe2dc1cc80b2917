"""Decoding token by token: buffers that are filled in place against tensors that are replaced."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_adapters import LENGTH, batch_of, make, tokens

from ttt.learner import Reader
from ttt.models.cache import PADDING, Cache
from ttt.stream import Batch


def read_on(learner, batch, cut, *, cache, in_place):
    """The first `cut` tokens at once, the others one by one: logits, and what is remembered."""
    state, logits, length = learner.adapter.initial(), [], batch.tokens_BT.shape[1]
    # While gradients are on, every tensor is replaced: that is the reference.
    with torch.set_grad_enabled(not in_place):
        for start, stop in [(0, cut), *((t, t + 1) for t in range(cut, length))]:
            part = Batch(*(x[:, start:stop] for x in (batch.tokens_BT, batch.targets_BT, batch.segment_BT)))
            logits_BTV, state = learner(part, state, cache=cache)
            logits.append(logits_BTV.detach())
    return torch.cat(logits, 1), state


def rows_of(seed, *, padded):
    """Three rows; with `padded`, of several documents, with padding in other places of each."""
    batch = batch_of(tokens(seed, rows=3, length=LENGTH))
    if not padded:
        return batch
    generator = torch.Generator().manual_seed(seed)
    segment_BT = (torch.rand(3, LENGTH, generator=generator) < 0.1).long().cumsum(1)
    return batch._replace(segment_BT=segment_BT.masked_fill(torch.rand(3, LENGTH, generator=generator) < 0.1, PADDING))


@pytest.mark.parametrize("window", [1, 5, None])
@given(cut=st.integers(1, LENGTH - 1), seed=st.integers(0, 2), padded=st.booleans(), more=st.sampled_from([None, 1]))
@settings(max_examples=8, deadline=None)
def test_buffers_hold_what_replaced_tensors_hold(window, cut, seed, padded, more):
    learner, batch = make("none", window=window).eval(), rows_of(seed, padded=padded)
    plain, exact, fast = Cache(), Cache(), Cache(exact=False, more=more)
    expected, _ = read_on(learner, batch, cut, cache=plain, in_place=False)
    equal, _ = read_on(learner, batch, cut, cache=exact, in_place=True)
    near, _ = read_on(learner, batch, cut, cache=fast, in_place=True)
    real_BT = batch.segment_BT >= 0
    assert torch.equal(equal[real_BT], expected[real_BT])
    torch.testing.assert_close(near[real_BT], expected[real_BT])
    assert exact.tensors.keys() == plain.tensors.keys()
    for name, x in exact.tensors.items():
        assert torch.equal(x, plain.tensors[name]), name


@pytest.mark.parametrize(
    "options",
    [{}, {"centre": True}, {"reset": "task", "chunk": 2}, {"source": "hidden", "clip": 0.05}, {"norm": "spectral"},
     {"rule": "nlms", "momentum": 0.5}, {"chunk": 1}, {"write_at": "prompt"}],
)  # fmt: skip
@pytest.mark.parametrize("padded", [False, True])
def test_an_open_chunk_filled_in_place_is_the_chunk_that_is_copied(options, padded):
    learner, batch = make("mlp_fast", **options).eval(), rows_of(0, padded=padded)
    expected, state = read_on(learner, batch, 6, cache=Cache(), in_place=False)
    got, after = read_on(learner, batch, 6, cache=Cache(), in_place=True)
    real_BT = batch.segment_BT >= 0
    torch.testing.assert_close(got[real_BT], expected[real_BT])
    assert after.keys() == state.keys()
    for name, x in after.items():
        torch.testing.assert_close(x, state[name].detach(), msg=name)


@pytest.mark.parametrize("adapter", ["none", "mlp_fast"])
@pytest.mark.parametrize("stop", [5, 8, 11])
def test_readers_that_go_on_from_one_memory_do_not_touch_each_other(adapter, stop):
    learner, tokens_BT = make(adapter, window=5).eval(), tokens(0, rows=2, length=LENGTH)
    other_BT = tokens(1, rows=2, length=LENGTH)

    def one_by_one(reader, rows_BT, start, end):
        return torch.cat([reader.read(rows_BT[:, t : t + 1]) for t in range(start, end)], 1)

    first = Reader(learner)
    one_by_one(first, tokens_BT, 0, stop)
    memory = first.export()
    readers = [Reader(learner), Reader(learner)]
    for reader in readers:
        reader.restore(memory)
    # In turn, so that each would find what the others have written.
    for t in range(stop, stop + 6):
        first.read(other_BT[:, t : t + 1])
        logits = [
            reader.read(rows_BT[:, t : t + 1]) for reader, rows_BT in zip(readers, (tokens_BT, other_BT), strict=True)
        ]
    for rows_BT, last_B1V in zip((tokens_BT, other_BT), logits, strict=True):
        whole = torch.cat([tokens_BT[:, :stop], rows_BT[:, stop : stop + 6]], 1)
        torch.testing.assert_close(last_B1V, Reader(learner).read(whole)[:, -1:])
