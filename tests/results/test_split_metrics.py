"""Metrics that split harm between slow and fast weights, slopes, and which way is better."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drawn_results import drawn_results
from scipy.stats import linregress, t

from ttt.metrics.slope import slope_interval
from ttt.results import catalogue
from ttt.results.catalogue import better
from ttt.results.results import Results
from ttt.results.scores import QUANTITIES


def test_the_split_adds_up_and_says_what_the_carried_state_adds():
    rng = np.random.default_rng(0)
    results = Results(scenario="task", tasks=list("abcd"), fingerprints=[""] * 4, learned_at=[1, 2, 3, 4],
                      entropy=[math.nan] * 4, phases=4)  # fmt: skip
    for _ in range(5):
        scores = {m: {q: rng.random(4).tolist() for q in QUANTITIES} for m in ("slow", "fast", "carried")}
        results.add(columns=[0, 1, 2, 3], scores=scores, base=None)
    metrics = catalogue.metrics(results)
    for quantity in QUANTITIES:
        for harm, whole in (("forgetting", "forgetting_at_learn"), ("plasticity", "plasticity_loss")):
            parts = [metrics[f"split/{quantity}/{harm}_{part}"] for part in ("slow", "read", "carried")]
            assert parts[0] == pytest.approx(metrics[f"slow/{quantity}/{whole}"])
            assert sum(parts[:2]) == pytest.approx(metrics[f"fast/{quantity}/{whole}"])
            assert sum(parts) == pytest.approx(metrics[f"carried/{quantity}/{whole}"])
        assert metrics[f"slow/{quantity}/plasticity_loss"] == -metrics[f"slow/{quantity}/learning_slope"]
        assert metrics[f"split/{quantity}/lost_knowledge"] == metrics[f"fast/{quantity}/forgetting_at_learn"]
        assert metrics[f"split/{quantity}/lost_knowledge_carried"] == metrics[f"carried/{quantity}/forgetting_at_learn"]
        whole = metrics[f"split/{quantity}/lost_knowledge"] + metrics[f"split/{quantity}/lost_access"]
        assert whole == pytest.approx(metrics[f"slow/{quantity}/forgetting_at_learn"])
    without = [name for name in catalogue.names(drawn_results()) if name.startswith("split/") and "carried" in name]
    assert without == []


@pytest.mark.parametrize(
    ("tasks", "shares"), [(2, ["fast_share_carried"]), (3, ["fast_share_carried", "fast_share_plasticity"])]
)
def test_a_share_is_nan_for_want_of_a_number_or_of_harm(tasks, shares):
    results = Results(scenario="task", tasks=["a"] * tasks, fingerprints=[""] * tasks,
                      learned_at=range(1, tasks + 1), entropy=[math.nan] * tasks, phases=tasks)  # fmt: skip
    for _ in range(tasks + 1):
        # Nothing is forgotten, and of the first half of a sequence no token is scored.
        scores = {q: [math.nan if q.endswith("early") else 0.5] * tasks for q in QUANTITIES}
        results.add(columns=list(range(tasks)), scores=dict.fromkeys(("slow", "fast", "carried"), scores), base=None)
    undefined = catalogue.undefined(results, catalogue.metrics(results))
    for share in shares:
        assert undefined[f"split/loss/{share}"] == catalogue.find(f"split/loss/{share}").too_small
        assert "task 1 has no finite loss_early" in undefined[f"split/loss_early/{share}"]


def test_the_interval_of_a_slope_is_that_of_least_squares():
    y = np.array([0.9, 0.7, 0.8, 0.5, 0.6])
    a = np.vstack([np.zeros(5), np.diag(y)])
    interval, reference = slope_interval(a, np.arange(1, 6)), linregress(np.arange(5), y)
    half = t.ppf(0.975, 3) * reference.stderr
    assert interval == pytest.approx((reference.slope, reference.slope - half, reference.slope + half))
    assert math.isnan(slope_interval(a[:3, :2], np.arange(1, 3)).low)
    results = drawn_results()
    slopes = [catalogue.metric(results, f"slow/loss/{name}") for name in ("slope_low", "learning_slope", "slope_high")]
    assert slopes == sorted(slopes)


def test_which_way_is_better():
    for name in ("min_acc", "wc_acc", "lca_10"):
        assert (better(f"fast/loss/{name}"), better(f"fast/accuracy/{name}")) == (-1, 1)
    for name in ("gap_depth", "gap_length_censored", "windowed_forgetting", "steps_to_criterion", "plasticity_loss"):
        assert better(f"fast/loss/{name}") == better(f"fast/accuracy/{name}") == -1
    for name in ("windowed_plasticity", "savings_slow", "savings_fast", "slope_low"):
        assert better(f"fast/loss/{name}") == better(f"fast/accuracy/{name}") == 1
    assert better("fast/loss/savings_slow_censored") == -1
    assert better("split/loss/forgetting_slow") == better("split/loss/plasticity_read") == -1
    assert better("split/loss/lost_knowledge") == -1
    assert better("split/loss/lost_access") == better("fast_gain/loss/lost_access") == -1
    assert better("fast_gain/loss/access_recovered") == better("fast_gain/loss/avg_final") == 1
    assert better("split/loss/fast_share_plasticity") == 1
    assert better("slow/plasticity/dormant_tau0.1") == better("fast/drift/kl_base") == -1
    assert better("slow/plasticity/erank") == better("carried/plasticity/erank") == 1
