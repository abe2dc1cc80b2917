"""Pareto selection on score matrices: by hand, as properties, and against the gepa package."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttt.prompts.pareto import by_mean, cover, fronts, parent_weights, pareto_frontier, select_pool

# The matrix in the docstring of the module.
EXAMPLE = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]])
# Prompt 0 has the best mean, but shares every front with 1 or 2, which are alone on problems 4 and
# 5.
SHARED = torch.tensor([[1.0, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1]])


def matrices(values=(0.0, 1.0), prompts=7, problems=6):
    row = st.integers(1, problems).flatmap(
        lambda v: st.lists(st.lists(st.sampled_from(values), min_size=v, max_size=v), min_size=1, max_size=prompts)
    )
    return row.map(torch.tensor)


SCORES = st.one_of(matrices(), matrices((0.0, 0.25, 0.5, 1.0)))


def test_an_example_by_hand():
    assert fronts(EXAMPLE).tolist() == [[True, True, False, False], [True, True, True, False], [False] * 3 + [True]]
    assert pareto_frontier(EXAMPLE).tolist() == [False, True, True]
    assert parent_weights(EXAMPLE).tolist() == [0, 3, 1]
    assert by_mean(EXAMPLE) == [1, 0, 2]
    assert select_pool(EXAMPLE, 2) == [1, 2]
    assert select_pool(EXAMPLE, 3) == [1, 2, 0]
    assert cover(EXAMPLE, 2) == [1, 2]
    assert cover(EXAMPLE, 3) == [1, 2, 0]


def test_the_best_mean_is_kept_even_off_the_frontier():
    assert pareto_frontier(SHARED).tolist() == [False, True, True]
    assert by_mean(SHARED)[0] == 0
    assert select_pool(SHARED, 1) == cover(SHARED, 1) == [0]
    assert select_pool(SHARED, 3) == [0, 1, 2]


def test_a_cover_prefers_what_adds_over_what_is_good():
    score_NV = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0.5]])
    assert cover(score_NV, 4) == [0, 2, 3, 1]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_of_equal_prompts_the_first_stays(value):
    score_NV = torch.full((3, 4), value)
    assert pareto_frontier(score_NV).tolist() == [True, False, False]
    assert select_pool(score_NV, 2) == cover(score_NV, 2) == [0, 1]


@given(SCORES)
@settings(max_examples=150, deadline=None)
def test_a_prompt_that_is_alone_on_a_front_stays(score_NV):
    front_NV = fronts(score_NV)
    alone_N = (front_NV & (front_NV.sum(0) == 1)).any(1)
    frontier_N = pareto_frontier(score_NV)
    assert bool(frontier_N[alone_N].all())
    size = int(frontier_N.sum()) + 1
    assert set(alone_N.nonzero().flatten().tolist()) <= set(select_pool(score_NV, size))


@given(SCORES)
@settings(max_examples=150, deadline=None)
def test_the_frontier_reaches_the_best_on_every_problem_and_holds_no_dominated_one(score_NV):
    frontier_N, front_NV = pareto_frontier(score_NV), fronts(score_NV)
    assert torch.equal(score_NV[frontier_N].max(0).values, score_NV.max(0).values)
    for n in frontier_N.nonzero().flatten().tolist():
        others_N = frontier_N.clone()
        others_N[n] = False
        # Without prompt n, some problem on which it is among the best has no prompt left.
        assert not bool(front_NV[others_N].any(0)[front_NV[n]].all())


@given(SCORES, st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_a_cover_only_grows_and_ends_at_the_frontier(score_NV, size):
    whole, part = cover(score_NV, len(score_NV)), cover(score_NV, size)
    assert sorted(whole) == list(range(len(score_NV)))
    assert part == whole[:size]
    assert torch.equal(score_NV[whole].max(0).values, score_NV.max(0).values)
    # A greedy cover: the gain in the sum of best rewards never grows.
    reached = [score_NV[whole[:k]].max(0).values.double().sum() for k in range(1, len(whole) + 1)]
    gains = [float(after - before) for before, after in pairwise(reached)]
    assert gains == sorted(gains, reverse=True)
    assert float(score_NV[whole[0]].mean()) == float(score_NV.mean(1).max())


@given(SCORES, st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_the_pool_holds_the_frontier_before_others(score_NV, size):
    chosen, frontier_N = select_pool(score_NV, size), pareto_frontier(score_NV)
    assert len(chosen) == len(set(chosen)) == min(size, len(score_NV))
    of_frontier = [bool(frontier_N[n]) for n in chosen[1:]]
    assert of_frontier == sorted(of_frontier, reverse=True)


def gepa_fronts(score_NV):
    """Return the fronts as gepa stores them: problem -> set of prompts."""
    return {v: set(fronts(score_NV)[:, v].nonzero().flatten().tolist()) for v in range(score_NV.shape[1])}


@given(SCORES)
@settings(max_examples=200, deadline=None)
def test_against_gepa(score_NV):
    gepa_utils = pytest.importorskip("gepa.gepa_utils")
    # Of equals we keep the first, and gepa goes by the order of its sets: a tiny difference removes
    # the ties.
    scores = [mean - 1e-9 * n for n, mean in enumerate(score_NV.double().mean(1).tolist())]
    theirs = gepa_utils.find_dominator_programs(gepa_fronts(score_NV), scores)
    assert sorted(theirs) == pareto_frontier(score_NV).nonzero().flatten().tolist()
    left = gepa_utils.remove_dominated_programs(gepa_fronts(score_NV), scores=scores)
    count = Counter(n for front in left.values() for n in front)
    assert parent_weights(score_NV).tolist() == [count[n] for n in range(len(score_NV))]


def test_parents_are_drawn_as_gepa_draws_them():
    gepa_utils = pytest.importorskip("gepa.gepa_utils")
    rng, mean = random.Random(0), EXAMPLE.mean(1).tolist()
    theirs = Counter(
        gepa_utils.select_program_candidate_from_pareto_front(gepa_fronts(EXAMPLE), mean, rng) for _ in range(4000)
    )
    torch.manual_seed(0)
    ours = Counter(torch.multinomial(parent_weights(EXAMPLE), 4000, replacement=True).tolist())
    assert set(theirs) == set(ours) == {1, 2}
    # 3 : 1, with a standard deviation of 27.
    assert abs(theirs[1] - 3000) < 110
    assert abs(ours[1] - 3000) < 110
