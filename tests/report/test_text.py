"""How a page writes numbers, times and names, and which rows it keeps when there are too many."""

from __future__ import annotations

import pytest

from ttt.config.visible import visible
from ttt.report.text import UNDEFINED, duration, number, thin


@pytest.mark.parametrize(("seconds", "text"), [(12.34, "12.3 s"), (200, "3 min 20 s"), (3720, "1 h 02 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_numbers():
    texts = [number(x) for x in (1.23456, -0.0, 12345.6, 0.00012, float("nan"))]
    assert texts == ["1.235", "0.000", "12,346", "0.00012", UNDEFINED]
    assert visible("a\x00b\ud800\tc\n") == "a\u2400b?\tc\n"


@pytest.mark.parametrize("count", [0, 1, 2, 29, 30, 31, 1000])
def test_thinning_keeps_the_ends(count):
    picked = thin(count, to=30)
    assert len(picked) == min(count, 30)
    assert picked == sorted(set(picked))
    if count:
        assert (picked[0], picked[-1]) == (0, count - 1)
