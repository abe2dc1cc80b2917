"""The shares of slow and fast weights in a metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from result_matrices import CARRIED, FAST, METRICS, SLOW, plain_rows

from ttt.metrics import split


def test_the_split_by_hand():
    at = plain_rows(2)
    assert split.access_recovered(SLOW, FAST, at) == pytest.approx(1.5)
    assert split.lost_access(SLOW, FAST, at) == pytest.approx(1.0)
    assert split.lost_knowledge(FAST, at) == pytest.approx(2.0)
    assert split.forgetting_recovered(SLOW, FAST, at) == pytest.approx(3.0 - 2.0)
    assert split.fast_share(SLOW, FAST, at) == pytest.approx(1 / 3)
    shares = split.parts(METRICS["forgetting_at_learn"], at, slow=SLOW, fast=FAST, carried=CARRIED)
    assert shares == pytest.approx((3.0, -1.0, 0.75))
    assert math.isnan(split.parts(METRICS["bwt_gem"], at, slow=SLOW, fast=FAST).carried)


def test_a_share_of_nothing_is_undefined():
    at = plain_rows(2)
    for slow in (-SLOW, np.full((3, 2), 0.5), np.array([[0.0, 0.0], [0.5, 0.0], [0.495, 0.5]])):
        assert math.isnan(split.fast_share(slow, FAST, at))
    assert math.isnan(split.fast_share(np.array([[0.0], [0.5]]), np.array([[0.0], [0.5]]), plain_rows(1)))
    for part in (split.forgetting_recovered, split.lost_access, split.access_recovered):
        assert math.isnan(part(np.array([[0.0], [0.5]]), np.array([[0.0], [0.5]]), plain_rows(1))), part


THREE_MODES = st.integers(2, 5).flatmap(lambda j: arrays(np.float64, (3, j + 1, j), elements=st.floats(-5, 5)))


@given(THREE_MODES)
def test_the_parts_add_up(modes):
    slow, fast, carried = modes
    at = plain_rows(slow.shape[1])
    for linear in split.LINEAR:
        shares = split.parts(linear, at, slow=slow, fast=fast, carried=carried)
        assert shares.slow + shares.read == pytest.approx(linear(fast, at), abs=1e-9, nan_ok=True)
        assert sum(shares) == pytest.approx(linear(carried, at), abs=1e-9, nan_ok=True)
    forgotten = METRICS["forgetting_at_learn"](slow, at)
    whole = split.lost_knowledge(fast, at) + split.lost_access(slow, fast, at)
    assert whole == pytest.approx(forgotten, abs=1e-9)
    assert split.lost_access(slow, slow, at) == pytest.approx(0)
    if forgotten > 0.1:
        share = split.fast_share(slow, fast, at)
        assert share * forgotten == pytest.approx(split.lost_access(slow, fast, at), abs=1e-9)


def test_a_maximum_does_not_split():
    with pytest.raises(AssertionError, match="forgetting_max_seen is not linear"):
        split.parts(METRICS["forgetting_max_seen"], plain_rows(2), slow=SLOW, fast=FAST)


def test_lost_plasticity_splits_too():
    """The slow weights learn 0.2 less with every task; reading makes up for half of that."""
    at = plain_rows(4)
    slow = np.zeros((5, 4))
    fast = np.zeros((5, 4))
    slow[at, np.arange(4)] = 0.9 - 0.2 * np.arange(4)
    fast[at, np.arange(4)] = 0.9 - 0.1 * np.arange(4)
    assert split.plasticity_loss(slow, at) == pytest.approx(0.2)
    assert split.fast_share(slow, fast, at, harm=split.plasticity_loss) == pytest.approx(0.5)
    assert split.parts(METRICS["learning_slope"], at, slow=slow, fast=fast)[:2] == pytest.approx((-0.2, 0.1))
