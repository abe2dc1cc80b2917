"""A long piece read through a cache: in blocks, in time that grows with its length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_adapters import LENGTH, batch_of, make, tokens
from torch.utils.flop_counter import FlopCounterMode

from ttt.learner import Reader
from ttt.models.cache import PADDING, Cache
from ttt.stream import Batch


def read_in_two(learner, batch, cut, *, cache):
    """Logits of a row that is read up to `cut` and from there on."""
    state, logits = learner.adapter.initial(), []
    for piece in (slice(0, cut), slice(cut, None)):
        part = Batch(*(x[:, piece] for x in (batch.tokens_BT, batch.targets_BT, batch.segment_BT)))
        logits_BTV, state = learner(part, state, cache=cache)
        logits.append(logits_BTV)
    return torch.cat(logits, 1)


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("extra", [0, 3])
@given(cut=st.integers(1, LENGTH - 1), seed=st.integers(0, 2), packed=st.booleans(), padded=st.booleans())
@settings(max_examples=10, deadline=None)
def test_it_is_the_same_as_reading_the_row_at_once(window, extra, cut, seed, packed, padded):
    learner, batch = make("none", window=window).eval(), batch_of(tokens(seed, rows=2, length=LENGTH))
    segment_BT = torch.zeros_like(batch.segment_BT)
    if packed:
        segment_BT[0, LENGTH // 3 :] = 1
    if padded:
        # A lane that was filled up before the long piece: its mask is not that of blocks.
        segment_BT[1, cut - 1] = PADDING
    batch = batch._replace(segment_BT=segment_BT)
    expected, _ = learner(batch, learner.adapter.initial())
    got = read_in_two(learner, batch, cut, cache=Cache(extra=extra))
    real_BT = segment_BT >= 0
    if not padded:
        torch.testing.assert_close(got[real_BT], expected[real_BT])
    # Padding takes no place, so the reference reads the lane without it.
    whole, _ = learner(batch, learner.adapter.initial(), cache=Cache())
    torch.testing.assert_close(got[real_BT], whole[real_BT])


def test_its_cost_grows_with_its_length_alone():
    learner = make("none", window=4).eval()

    def operations(length):
        reader = Reader(learner)
        reader.read(tokens(0, rows=1, length=8))
        with FlopCounterMode(display=False) as counter:
            reader.read(tokens(1, rows=1, length=length))
        return counter.get_total_flops()

    assert operations(256) == 2 * operations(128)
