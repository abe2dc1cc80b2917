"""Metrics of the curves inside tasks, by hand; names and reasons where they are not defined."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from drawn_results import FIRST, SECOND, THIRD, drawn_results

from ttt.results import catalogue
from ttt.results.saved import as_json


def test_metrics_of_the_curves_by_hand():
    metrics = catalogue.metrics(drawn_results())
    expected = {
        "min_acc": (0.3 + 0.4) / 2,
        "wc_acc": (1.0 + 0.3 + 0.4) / 3,
        # Phases 2 and 3: task 1 falls from 0.9 to 0.3 and from 0.8 to 0.4, task 2 from 0.9 to 0.4.
        "gap_depth": (0.6 + 0.4 + 0.5) / 3,
        "gap_lasting": (0.1 + 0.0 + 0.5) / 3,
        # Task 1 is back at 0.8 after 30 steps of phase 3; the others are not seen to come back.
        "gap_length": 30,
        "gap_length_censored": 2 / 3,
        "steps_to_criterion": (40 + 30 + 40) / 3,
        "steps_to_criterion_censored": 0,
        "lca_4": (np.mean(FIRST[:5]) + np.mean(SECOND[4:9]) + np.mean(THIRD[8:])) / 3,
        "windowed_forgetting": (0.6 + 0.5 + 0.0) / 3,
        "windowed_plasticity": (0.8 + 0.7 + 0.7) / 3,
    }
    for name, value in expected.items():
        if name != "windowed_forgetting":
            assert metrics[f"slow/accuracy/{name}"] == pytest.approx(value), name
    levels = ("min_acc", "wc_acc", "lca_4")
    for name, value in expected.items():
        # Of a loss the changes are the same, and its levels are in bits: the worst loss.
        assert metrics[f"fast/loss/{name}"] == pytest.approx(
            5 - value if name in levels else metrics[f"slow/accuracy/{name}"]
        ), name
    # Task 3 only rises: its steepest "fall" is the smallest rise, below zero.
    assert metrics["slow/accuracy/windowed_forgetting"] == pytest.approx((0.6 + 0.5 - 0.1) / 3)


def test_without_points_there_are_no_such_names():
    named = catalogue.metrics(drawn_results(anytime=False))
    assert not [
        name for name in named if any(word in name for word in ("min_acc", "gap_", "lca", "windowed", "savings"))
    ]
    assert math.isnan(catalogue.metric(drawn_results(anytime=False), "fast/loss/min_acc"))
    assert not [name for name in named if "/plasticity/" in name or "/drift/" in name]


def test_an_undefined_metric_says_why():
    results = drawn_results()
    undefined = as_json(results)["undefined"]
    assert not [name for name in undefined if "_acc" in name or "lca" in name]
    results.points[5]["scores"] = json.loads(json.dumps(results.points[5]["scores"]))
    results.points[5]["scores"]["fast"]["loss"][0] = math.nan
    results._curves.clear()
    # Measured, but NaN: the run diverged, or no token was scored.
    assert "task 1 has no finite value at step 70" in catalogue.why(results, "fast/loss/min_acc")
    point = results.points[5]
    thin = {mode: {q: v[1:] for q, v in by_quantity.items()} for mode, by_quantity in point["scores"].items()}
    results.points[5] = point | {"columns": [1], "scores": thin}
    results._curves.clear()
    assert catalogue.why(results, "fast/loss/min_acc") == "task 1 was not measured at step 70"
    results.points[5] = point
    results.rows[2]["columns"] = [1, 2]
    thin = {mode: {q: v[1:] for q, v in by_quantity.items()} for mode, by_quantity in results.rows[2]["scores"].items()}
    results.rows[2]["scores"] = thin
    results._curves.clear()
    assert math.isnan(catalogue.metric(results, "slow/loss/wc_acc"))
    assert catalogue.why(results, "slow/loss/wc_acc") == "task 1 was not measured in row 2 (see eval.every)"
    alone = as_json(drawn_results(tasks=1))["undefined"]
    assert alone["fast/loss/gap_depth"] == "no task was old in any phase"
    assert alone["fast/loss/slope_low"] == "undefined for 1 task"
