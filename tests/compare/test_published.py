"""When a published value and ours agree."""

from __future__ import annotations

import math

import pytest

from ttt.compare.published import PublishedValue, agrees, check_published, published_values
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


SECTION = {
    "source": "x",
    "metric": "slow/accuracy/avg_final",
    "values": [{"when": "strategy.name=naive", "mean": 0.5, "sd": 0.1}],
}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"metric": "slow/accuracy/avg_finl"}, ["published.metric=slow/accuracy/avg_finl", "avg_final?"]),
        ({"metric": "slow/accurcy/avg_final"}, ["published.metric=slow/accurcy/avg_final", "accuracy"]),
        ({"metric": "avg_final"}, ["published.metric=avg_final"]),
        ({"metric": "slow/loss/lca_x"}, ["published.metric=slow/loss/lca_x"]),
        ({"metric": 3}, ["published.metric=3"]),
        ({"sorce": "x"}, ["published.sorce", "did you mean source?"]),
        ({"values": 3}, ["published.values=3"]),
        ({"values": [{"mean": 0.5}]}, ["published.values[0]", "when"]),
        ({"values": [{"when": "naive", "mean": 0.5}]}, ["published.values[0].when=naive", "KEY=VALUE"]),
        ({"values": [{"when": "", "mean": "half"}]}, ["published.values[0].mean=half"]),
    ],
)
def test_a_wrong_section_is_refused_in_one_line(wrong, words):
    check_published(SECTION)
    with pytest.raises(ValueError, match=r"^published") as refused:
        check_published(SECTION | wrong)
    assert all(word in str(refused.value) for word in words), refused.value
    assert "\n" not in str(refused.value)
