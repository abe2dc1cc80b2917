"""Which metrics a search may look for, and in which direction."""

from __future__ import annotations

import math

import pytest

from ttt.results.tuning import choose, direction, obeys_continual_rule


def test_the_continual_rule_allows_only_what_the_current_task_tells():
    assert obeys_continual_rule("fast/loss/avg_learning")
    for metric in ("fast/loss/avg_final", "slow/accuracy/forgetting_max_seen", "fast/loss/avg_before", "x"):
        assert not obeys_continual_rule(metric)


def test_a_search_goes_where_its_metric_is_better():
    assert direction("fast/loss/avg_learning") == "minimize"
    assert direction("fast/accuracy/avg_learning") == "maximize"
    assert direction("fast/accuracy/forgetting_max_seen") == "minimize"
    assert direction("slow/loss/bwt_gem") == "maximize"
    with pytest.raises(ValueError, match=r"did you mean fast/loss/avg_learning\?"):
        direction("fast/loss/avg_lerning")


def test_the_best_candidate_has_the_best_mean_of_those_that_did_not_fail():
    scores = {("lr=1",): [3.0, 5.0], ("lr=2",): [3.5, 4.0], ("lr=3",): [0.1, None], ("lr=4",): [0.1, math.nan]}
    choice = choose(scores, "fast/loss/avg_learning")
    assert choice.best == ("lr=2",)
    assert choice.means == {("lr=1",): 4.0, ("lr=2",): 3.75, ("lr=3",): None, ("lr=4",): None}
    assert choose(scores, "fast/accuracy/avg_learning").best == ("lr=1",)
    nothing = choose({("lr=1",): [None]}, "fast/loss/avg_learning")
    assert nothing.best is None
    assert "nothing" in nothing.line()
    assert nothing.as_json()["chosen"] == []


@pytest.mark.parametrize(
    ("best", "word"), [(1, "smallest"), (2, ""), (3, "largest")], ids=["smallest", "inside", "largest"]
)
def test_a_choice_at_the_edge_of_its_range_says_so(best, word):
    scores = {(f"lr={k}",): [0.0 if k == best else 1.0] for k in (1, 2, 3)}
    line = choose(scores, "fast/loss/avg_learning").line()
    assert ("that was tried" in line) == bool(word)
    assert word in line
    two = {(f"lr={k}",): [float(k)] for k in (1, 2)}
    assert "that was tried" not in choose(two, "fast/loss/avg_learning").line()
