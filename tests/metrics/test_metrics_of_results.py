"""Metrics as results.json holds them: oriented, with the reason why one is NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from result_matrices import FALLS, FAST, SLOW

from ttt.results import catalogue
from ttt.results.catalogue import better
from ttt.results.results import Results
from ttt.results.saved import as_json
from ttt.results.scores import QUANTITIES


def results_of(slow, fast):
    """Return results of two modes in which every quantity has the same matrix."""
    tasks = slow.shape[1]
    results = Results(
        scenario="domain",
        tasks=[str(j) for j in range(tasks)],
        fingerprints=["" for _ in range(tasks)],
        learned_at=range(1, tasks + 1),
        entropy=[math.nan] * tasks,
        phases=tasks,
    )
    for i in range(tasks + 1):
        row = {mode: dict.fromkeys(QUANTITIES, a[i].tolist()) for mode, a in (("slow", slow), ("fast", fast))}
        results.add(columns=list(range(tasks)), scores=row, base=None)
    return results


def test_losses_are_oriented_before_metrics_are_taken():
    results = results_of(-SLOW, -FAST)
    metrics = catalogue.metrics(results)
    assert metrics["fast/loss/avg_triangle"] == pytest.approx((1.5 + 3.5 + 1.5) / 3)
    assert metrics["fast/loss/fwt_pairs_raw"] == pytest.approx(3.5)
    assert metrics["slow/loss/forgetting_max_last"] == metrics["slow/loss/forgetting_max_rows"] == pytest.approx(3)
    assert metrics["fast_gain/loss/lost_access"] == metrics["fast_gain/loss/forgetting_recovered"] == pytest.approx(1)
    assert metrics["fast_gain/loss/access_recovered"] == pytest.approx(1.5)
    assert metrics["fast_gain/loss/fast_share"] == pytest.approx(1 / 3)
    # The same numbers as accuracies: nothing was forgotten.
    assert math.isnan(metrics["fast_gain/accuracy/fast_share"])
    assert metrics["fast_gain/accuracy/lost_access"] == pytest.approx(-1)


def test_results_say_why_a_metric_is_nan():
    holes = FALLS.copy()
    holes[[1, 2], [2, 0]] = math.nan
    results = results_of(holes, holes)
    undefined = as_json(results)["undefined"]
    for name, task, row in (
        ("fast/accuracy/forgetting_max_seen", 1, 2),
        ("fast/accuracy/fwt_pairs_raw", 3, 1),
        ("fast_gain/loss/forgetting_recovered", 1, 2),
    ):
        assert undefined[name].startswith(f"task {task} "), name
        assert f" row {row} " in undefined[name], name
    assert undefined["fast/loss/base_final"] == "the base distribution was not measured"
    assert "fast/accuracy/forgetting_at_learn" not in undefined
    # Read as losses, the falls of FALLS are gains.
    assert undefined["fast_gain/loss/fast_share"] == "the slow weights forgot no more than 0.01"
    assert "fast_gain/accuracy/fast_share" not in undefined
    assert catalogue.why(results, "fast/regret/avg_final") == "the entropy of a task is not known"
    # Measured, as it stands in the columns of its row, but without a number: eval.every would not help.
    triangle = catalogue.why(results, "fast/regret/avg_triangle")
    assert triangle.startswith("task 1 ")
    assert " row 2 " in triangle
    assert "eval.every" not in triangle
    undefined = as_json(results_of(np.array([[0.0], [0.5]]), np.array([[0.0], [0.5]])))["undefined"]
    assert undefined["slow/loss/bwt_pairs"] == undefined["fast_gain/loss/fast_share"] == "undefined for 1 task"


def test_which_way_is_better():
    for name in ("forgetting_max_last", "forgetting_max_rows"):
        assert better(f"fast/loss/{name}") == better(f"fast/accuracy/{name}") == -1
    for name in ("avg_incremental", "avg_triangle", "fwt_pairs_raw"):
        assert (better(f"fast/loss/{name}"), better(f"fast/accuracy/{name}")) == (-1, 1)
    for name in ("avg_final", "fast_share", "forgetting_recovered"):
        assert better(f"fast_gain/loss/{name}") == 1
