"""When a published value and ours agree."""

from __future__ import annotations

import math

import pytest

from ttt.compare.published import PublishedValue, agrees, published_values
from ttt.metrics.seeds import t_interval


def test_agreement_is_two_published_sd_and_half_of_our_interval():
    value = PublishedValue("", "slow/accuracy/avg_final", "x", mean=0.5, sd=0.05)
    ours = t_interval([0.6, 0.62, 0.61])
    assert 0.1 < abs(ours.mean - value.mean) <= 0.1 + ours.half
    assert agrees(ours, value) == "yes"
    assert agrees(t_interval([0.7, 0.7, 0.7]), value) == "no"
    assert published_values({"published": None}) == []


@pytest.mark.parametrize(
    ("ours", "sd"), [([0.5], 0.05), ([0.5, 0.5], math.nan), ([0.5, math.nan], 0.05)], ids=["n=1", "no sd", "unmeasured"]
)
def test_agreement_is_not_known_where_a_spread_is_not(ours, sd):
    assert agrees(t_interval(ours), PublishedValue("", "slow/accuracy/avg_final", "x", mean=0.5, sd=sd)) == "-"
