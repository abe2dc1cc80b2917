"""`source=mqar`: what is scored follows from the pairs at the head of the row."""

from __future__ import annotations

import numpy as np
import pytest
from sources import build_source

from ttt.stream import IGNORE


def batches(source, classes, length):
    yield source.evaluation(classes, rows=6, length=length)
    yield source.draw(classes, rows=6, length=length, rng=np.random.default_rng(0))


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize(("pairs", "length"), [([4, 2], 16), ([8], 61), ([64], 256)])
def test_every_pair_is_asked_once(pairs, length, present):
    source = build_source("source=mqar", pairs=pairs, present=present)
    for index, count in enumerate(pairs):
        assert source.class_name(index) == f"{count} pairs"
        for batch in batches(source, np.array([index]), length):
            for tokens_T, targets_T in zip(batch.tokens_BT.tolist(), batch.targets_BT.tolist(), strict=True):
                head = tokens_T[: 2 * count]
                values = dict(zip(head[::2], head[1::2], strict=True))
                asked = {tokens_T[t]: target for t, target in enumerate(targets_T) if target != IGNORE}
                assert set(asked) == set(values)
                assert len(values) == count == len(set(values.values()))
                assert all(0 < key < 4096 <= value < 8192 for key, value in values.items())
                assert (asked == values) is present
                assert present or not set(asked.values()) & set(values.values())


def test_queries_come_soon_by_a_power_law():
    near = build_source("source=mqar", pairs=[4], power=0.01)
    even = build_source("source=mqar", pairs=[4], power=1.0)
    scored = [source.evaluation(np.array([0]), rows=200, length=256).targets_BT != IGNORE for source in (near, even)]
    means = [float(scored_BT.nonzero()[:, 1].double().mean()) for scored_BT in scored]
    # In the middle of places 8 .. 255, or well before.
    assert 120 < means[1] < 142
    assert means[0] < 90


def test_evaluation_is_fixed_and_never_trained_on():
    source = build_source("source=mqar", pairs=[4, 8])
    first, second = (source.evaluation(np.arange(2), rows=8, length=64) for _ in range(2))
    assert (first.tokens_BT == second.tokens_BT).all()
    trained = source.draw(np.arange(2), rows=500, length=64, rng=np.random.default_rng([0, 1, 2]))
    assert not {*map(tuple, trained.tokens_BT.tolist())} & {*map(tuple, first.tokens_BT.tolist())}


@pytest.mark.parametrize("pairs", [[], [4, 4], [3000]])
def test_impossible_pairs_are_refused(pairs):
    with pytest.raises(ValueError, match=r"source.pairs="):
        build_source("source=mqar", pairs=pairs)


def test_short_rows_are_refused():
    with pytest.raises(ValueError, match=r"task.seq_len=60: 16 pairs"):
        build_source("source=mqar", pairs=[16]).evaluation(np.array([0]), rows=1, length=60)
