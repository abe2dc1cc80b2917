"""Diagnostics of the last row as metrics of a run."""

from __future__ import annotations

import math

from ttt.metrics.matrix import learning_slope
from ttt.results import catalogue
from ttt.results.results import Results
from ttt.results.scores import QUANTITIES


def test_metrics_are_means_over_layers_in_the_last_row():
    results = Results(scenario="task", tasks=["a"], fingerprints=[""], learned_at=[1], entropy=[math.nan], phases=1)
    scores = {mode: {q: [0.5] for q in QUANTITIES} for mode in ("slow", "fast", "carried")}
    for row in range(2):
        numbers = {f"probe/layers.{k}/erank": 10.0 * k + row for k in (1, 2)}
        numbers |= {"probe/layers.1.memory/fast_erank": 2.0 + row, "drift/fast/kl_base": 0.5 * row}
        results.add(columns=[0], scores=scores, base=None, diagnostics=numbers | {"layers.0.mlp.step": 1.0})
    assert catalogue.metric(results, "slow/plasticity/erank") == 16
    assert catalogue.metric(results, "carried/plasticity/erank") == 3
    assert catalogue.metric(results, "fast/drift/kl_base") == 0.5
    assert catalogue.after_each_row(results, "slow/plasticity/erank") == [15, 16]
    named = [name for name in catalogue.names(results) if "/plasticity/" in name or "/drift/" in name]
    assert named == ["slow/plasticity/erank", "carried/plasticity/erank", "fast/drift/kl_base"]
    assert math.isnan(catalogue.metric(results, "slow/drift/kl_base"))
    results.rows[1]["diagnostics"]["probe/layers.1/erank"] = math.nan
    assert catalogue.why(results, "slow/plasticity/erank") == "not finite in the last row, or nothing to measure"
    assert math.isnan(learning_slope(results.matrix("slow", "loss"), results.learned_at))
