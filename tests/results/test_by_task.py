"""Metrics of some tasks alone, and of each: against the metric of a smaller matrix, and its mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from result_matrices import FALLS, METRICS, plain_rows

from ttt.metrics.matrix import NOISE
from ttt.results import catalogue
from ttt.results.by_task import each_task, is_mean_over_tasks, is_of_tasks, on_tasks
from ttt.results.results import Results
from ttt.results.saved import as_json, from_json
from ttt.results.scores import QUANTITIES


def results_of(a, *, tags=()):
    """Results in which every quantity of both modes is the matrix `a`."""
    tasks = a.shape[1]
    results = Results(scenario="domain", tasks=list("abcdef")[:tasks], fingerprints=[""] * tasks,
                      learned_at=range(1, tasks + 1), entropy=[math.nan] * tasks, phases=tasks, tags=tags)  # fmt: skip
    for row in a:
        scores = {mode: dict.fromkeys(QUANTITIES, row.tolist()) for mode in ("slow", "fast")}
        results.add(columns=list(range(tasks)), scores=scores, base=None)
    return results


def test_a_mean_over_tasks_is_the_mean_of_its_tasks(learner):
    """Every metric that is said to be one, of a run that measures everything."""
    names = [name for name in catalogue.names(learner) if is_mean_over_tasks(name)]
    assert {name.split("/")[2] for name in names} >= {"gained", "kept", "score_final", "forgetting_max_seen"}
    for name in names:
        value, pairs = catalogue.metric(learner, name), each_task(learner, name, range(len(learner.tasks)))
        above, below = pairs.mean(0) if len(pairs) else (math.nan, math.nan)
        assert (above / below if below > NOISE else math.nan) == pytest.approx(value, nan_ok=True), name


def test_other_metrics_are_no_such_mean(learner):
    assert not any(map(is_mean_over_tasks, ("slow/loss/avg_incremental", "slow/loss/bwt_pairs", "slow/loss/gap_depth")))
    assert is_of_tasks("slow/loss/bwt_pairs")
    assert not is_of_tasks("slow/loss/gap_depth")
    assert not is_of_tasks("cost/run/seconds")


@pytest.mark.parametrize("tasks", [[0, 2], [1], [0, 1, 2]])
def test_some_tasks_are_the_columns_of_the_matrix(tasks):
    results = results_of(FALLS)
    for name, metric in METRICS.items():
        expected = metric(FALLS[:, tasks], plain_rows(3)[tasks])
        assert on_tasks(results, f"slow/accuracy/{name}", tasks) == pytest.approx(expected, nan_ok=True), name
    assert on_tasks(results, "slow/loss/avg_final", tasks) == pytest.approx(FALLS[-1, tasks].mean())


def test_a_hole_is_no_task_that_does_not_count():
    forgetting = "slow/accuracy/forgetting_at_learn"
    assert each_task(results_of(FALLS), forgetting, range(3)) == pytest.approx(np.array([[0.3, 1.0], [0.1, 1.0]]))
    holes = FALLS.copy()
    holes[1, 0] = np.nan
    assert np.isnan(each_task(results_of(holes), forgetting, range(3))).all()
    # The last task cannot be forgotten: alone it says nothing.
    assert each_task(results_of(FALLS), forgetting, [2]).shape == (0, 2)


def test_a_ratio_has_both_of_its_parts():
    pairs = each_task(results_of(FALLS), "slow/accuracy/forgetting_per_gained", range(3))
    assert pairs == pytest.approx(np.array([[0.3, 0.8], [0.1, 0.6]]))


def test_tags_are_saved_and_may_be_missing():
    tags = [{"script": "Greek"}, {"script": "Latin"}, {"script": "Latin"}]
    content = as_json(results_of(FALLS, tags=tags))
    assert content["tags"] == from_json(content).tags == tags
    older = as_json(results_of(FALLS))
    assert "tags" not in older
    assert from_json(older).tags == [{}, {}, {}]


def test_a_ratio_says_why_it_is_undefined():
    name = "slow/accuracy/forgetting_per_gained"
    flat = results_of(np.full((4, 3), 0.5))
    assert math.isnan(catalogue.metric(flat, name))
    assert catalogue.why(flat, name).startswith("no more than 0.01 was gained")
    holes = FALLS.copy()
    holes[0, 1] = np.nan
    assert catalogue.why(results_of(holes), name).startswith("task 2 has no finite accuracy in row 0")
    assert "undefined for 1 task" in catalogue.why(results_of(FALLS[:2, :1]), name)
