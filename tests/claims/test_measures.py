"""The numbers behind the claims of Fast-Slow Training, from curves written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fake_policies import PER_STEP, policy_run

from ttt.claims.measures import (
    Sooner,
    asymptote_gain,
    cost_to_reach,
    equal_cost_gain,
    later_gain,
    later_slope,
    saved_drift,
    thrift,
)
from ttt.claims.series import Series, time_to_level, value_at_level
from ttt.compare.runs import Run
from ttt.results.results import Results


def series(folder, adapter, success, **curves):
    return Series(policy_run(folder, adapter=adapter, success=success, **curves))


def test_a_level_is_reached_on_the_line_between_two_evaluations():
    time, value = np.array([0.0, 10, 20]), np.array([0.0, 0.5, 0.25])
    assert time_to_level(time, value, 0.25) == 5
    assert time_to_level(time, value, 0.5) == 10
    assert time_to_level(time, value, 0.0) == 0
    assert time_to_level(time, value, 0.6) == math.inf
    assert value_at_level(value, np.array([1.0, 2.0, 9.0]), 0.25) == 1.5
    assert math.isnan(value_at_level(value, value, 0.6))


def test_steps_and_rollouts_are_those_of_the_whole_run(tmp_path):
    fst = series(tmp_path, "prompt_pool", [0, 1, 1, 1], extra=50)
    alone = series(tmp_path, "none", [0, 0.25, 0.5, 0.75])
    assert cost_to_reach(fst, 0.5, unit="steps") == 5
    assert cost_to_reach(fst, 0.5, unit="rollouts") == 5 * 150
    assert cost_to_reach(alone, 0.5, unit="steps") == 20
    # A level that is never reached costs the whole run.
    assert cost_to_reach(alone, 0.9, unit="steps") == 30
    assert Sooner(0.5, "steps")(fst, alone) == pytest.approx(2)
    assert Sooner(0.5, "rollouts")(fst, alone) == pytest.approx(math.log2(20 * 100 / (5 * 150)))
    # If neither reaches it nothing is known, whatever the two spent.
    assert math.isnan(Sooner(1.5, "rollouts")(fst, alone))
    # The baseline's best is 0.75, at its end.
    assert Sooner(None, "steps")(fst, alone) == pytest.approx(math.log2(30 / 7.5))


def test_a_best_of_next_to_nothing_is_no_level(tmp_path):
    fst = series(tmp_path, "prompt_pool", [0, 0.5, 1, 1])
    alone = series(tmp_path, "none", [0.001, 0, 0, 0.04])
    assert math.isnan(Sooner(None, "steps")(fst, alone))


def test_a_run_measured_only_at_its_ends_tells_no_time_to_a_level(tmp_path):
    runs = [series(tmp_path, adapter, [0, 0.5, 1, 1]) for adapter in ("prompt_pool", "none")]
    assert Sooner(0.5, "steps")(*runs) == 0
    sparse = [Series(ours.run) for ours in runs]
    for curves in sparse:
        curves.run.results.points.clear()
    assert math.isnan(Sooner(0.5, "steps")(*sparse))
    # An asymptote does not count the evaluation before learning.
    low = series(tmp_path / "low", "none", [0, 0, 0, 0.25])
    assert asymptote_gain(sparse[0], low) == pytest.approx(1 - 0.25 / 3)


def test_success_is_compared_for_equal_costs(tmp_path):
    # Ours costs twice the rollouts a step: the other's 30 steps pay for 15 of ours.
    fst = series(tmp_path, "prompt_pool", [0, 0.4, 0.8, 1], extra=PER_STEP)
    alone = series(tmp_path, "none", [0, 0.1, 0.3, 0.5])
    for unit in ("rollouts", "tokens"):
        assert equal_cost_gain(unit)(fst, alone) == pytest.approx(0.6 - 0.5)
        assert equal_cost_gain(unit)(alone, fst) == pytest.approx(0.5 - 0.6)
        assert thrift(unit)(fst, alone) == pytest.approx(-1)
    # A second a step, and half a second for each of a hundred rollouts: 51 s a step against 1 s.
    assert thrift("seconds")(alone, fst) == pytest.approx(math.log2(51))
    assert equal_cost_gain("seconds")(fst, alone) == pytest.approx(0.04 * 30 / 51 - 0.5)


def test_costs_that_a_run_did_not_count_compare_with_nothing(tmp_path):
    fst, alone = (series(tmp_path, adapter, [0, 0.4, 0.8, 1]) for adapter in ("prompt_pool", "none"))
    journal = alone.run.folder / "metrics.jsonl"
    journal.write_text(journal.read_text().replace("slow_tokens_read", "unknown"))
    assert math.isnan(equal_cost_gain("tokens")(fst, alone))
    assert math.isnan(thrift("tokens")(fst, alone))
    assert equal_cost_gain("rollouts")(fst, alone) == 0


def test_drift_is_compared_at_equal_success(tmp_path):
    # At success s ours is 2 s bits away from the base, the baseline 8 s.
    fst = series(tmp_path, "prompt_pool", [0, 1, 1, 1], kl=[0, 2, 2, 2])
    alone = series(tmp_path, "none", [0, 0.2, 0.4, 0.5], kl=[0, 1.6, 3.2, 4.0])
    assert saved_drift(None, "kl")(fst, alone) == pytest.approx(0.75)
    assert saved_drift("slow", "kl_words")(fst, alone) == pytest.approx(0.75)
    assert saved_drift(None, "kl_forward")(fst, alone) == pytest.approx(0.75)
    # A distance that one of the two did not measure is not compared.
    assert math.isnan(saved_drift("slow", "kl_unknown")(fst, alone))
    # Behind the seed prompt ours is 9 bits away at any success, the baseline 8 s at 0.1, ..., 0.5.
    assert saved_drift("slow", "kl")(fst, alone) == pytest.approx(1 - 9 / (8 * 0.3))


def learned(folder, *success):
    """A run that scores `success` on each task right after learning it."""
    tasks = list(range(len(success)))
    results = Results(
        scenario="domain",
        tasks=[str(j) for j in tasks],
        fingerprints=[str(j) for j in tasks],
        learned_at=[j + 1 for j in tasks],
        entropy=[math.nan] * len(tasks),
        phases=len(tasks),
    )
    for row in range(len(tasks) + 1):
        # What a task scores at other times must not matter.
        values = [success[j] if row == j + 1 else 7.0 * row for j in tasks]
        results.add(columns=tasks, scores={"slow": {"success": values}}, base=None, step=row, current=row - 1)
    return Series(Run(folder, 0, {"adapter.name": "none"}, {}, results))


def test_the_gap_to_a_fresh_network_is_that_of_later_tasks(tmp_path):
    ours, fresh = learned(tmp_path, 0.1, 0.8, 0.6, 0.4), learned(tmp_path, 0.9, 0.8, 0.7, 0.6)
    assert later_gain(ours, fresh) == pytest.approx(-0.1)
    assert later_slope(ours, fresh) == pytest.approx(-0.1)
    assert math.isnan(later_slope(learned(tmp_path, 0.1, 0.2), learned(tmp_path, 0.1, 0.3)))
