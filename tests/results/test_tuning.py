"""Which metrics a search may look for, and in which direction."""

from __future__ import annotations

import pytest

from ttt.results.tuning import direction, obeys_continual_rule


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
