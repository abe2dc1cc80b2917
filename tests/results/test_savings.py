"""What a second learning saves: steps of slow weights, context of fast ones."""

from __future__ import annotations

import math

import pytest
from drawn_results import drawn_results, profile, relearned

from ttt.results import catalogue


def test_slow_savings_by_hand():
    """N_first of tasks 1 to 3 is 40, 30, 40; the criteria are 0.82, 0.83 and 0.93."""
    results = drawn_results()
    results.relearned = [
        relearned(0, [0, 10], [0.8, 0.85]),
        relearned(1, [0, 10, 20, 30, 40], [0.4, 0.5, 0.6, 0.7, 0.8]),
        relearned(2, [0], [1.0]),
    ]
    for quantity in ("loss", "accuracy"):
        # Task 1 in a quarter of the steps, task 3 at once; task 2 never came back and is left out.
        assert catalogue.metric(results, f"slow/{quantity}/savings_slow") == pytest.approx((0.75 + 1) / 2)
        assert catalogue.metric(results, f"slow/{quantity}/savings_slow_censored") == pytest.approx(1 / 3)
    flat = drawn_results()
    flat.rows[1]["scores"]["slow"]["accuracy"][0] = 0.1
    flat.relearned = [relearned(0, [0], [0.8])]
    assert math.isnan(catalogue.metric(flat, "slow/accuracy/savings_slow"))
    assert catalogue.why(flat, "slow/accuracy/savings_slow") == "task 1 had nothing to learn when it was first taught"


def test_fast_savings_by_hand():
    """Before, the last quarter's mean is met after 16 pieces; after, it is met in 5."""
    results = drawn_results(anytime=False, tasks=1)
    results.rows[0]["profile"] = [profile(6.0, 5.0, 4.0, 3.0)]
    results.rows[1]["profile"] = [profile(3.4, 1.8, 1.0, 1.0)]
    assert catalogue.metric(results, "fast/loss/savings_fast") == pytest.approx(1 - 5 / 16)
    results.rows[1]["profile"] = [profile(3.4, 3.3, 3.2, 3.1)]
    assert catalogue.metric(results, "fast/loss/savings_fast_censored") == 1
    assert math.isnan(catalogue.metric(results, "fast/loss/savings_fast"))
    # Half of the pieces hold no scored token.
    holes = profile(6.0, 5.0, 4.0, 3.0)
    holes[::2] = [math.nan] * 8
    results.rows[0]["profile"] = [holes]
    results.rows[1]["profile"] = [[math.nan, 2.0] * 8]
    assert catalogue.metric(results, "fast/loss/savings_fast") == pytest.approx(1 - 2 / 16)
    results.rows[1]["profile"] = [profile(1.0, 1.0, 1.0, math.nan)]
    assert catalogue.why(results, "fast/loss/savings_fast").startswith("no scored token in the last quarter")
