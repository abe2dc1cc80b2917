"""The state of a pool: named tensors that start at zero and end with their lifetime."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from toy_pools import BATCH, HIDDEN, OTHER, behind, pool_learner, run_rounds
from toy_prompts import LAYOUT, SEED, World, make, overlap, words

from ttt.adapters.evolving import Evolving
from ttt.learner.engine import merges_lanes
from ttt.prompts.evolve import Pool
from ttt.stream import Layout


def test_a_state_is_zero_before_anything_is_written():
    pool = make()
    state = pool.initial()
    assert isinstance(pool, Evolving)
    assert {x.dtype for x in state.values()} == {torch.float32}
    assert all(len(x) == 1 and not x.any() for x in state.values())
    assert pool.emitted(state).tolist() == [list(SEED)] * 4
    # All lanes share one pool.
    assert merges_lanes(pool)


@pytest.mark.parametrize(("reset", "survives"), [("task", False), ("never", True)])
def test_lifetimes(reset, survives):
    learner = pool_learner(reset=reset)
    outcome = learner.adapter.evolve(learner.fast, World(BATCH, overlap(HIDDEN)), BATCH, budget=200)
    learner.fast = learner.adapter.carry(outcome.state)
    assert int(learner.fast["age"]) == 1
    learner.begin_task()
    assert any(bool(x.any()) for x in learner.fast.values()) == survives


@pytest.mark.parametrize(
    ("numbers", "size"), [(range(20, 26), 6), (range(0, 3000, 500), 6), ([150_000, 7, 99_999], 3)], ids=str
)
def test_words_survive_floats_and_files(numbers, size):
    """Token ids of any size, stored as differences in float32, written to a file and read again."""
    names = [f"t{n}" for n in numbers]
    layout = Layout((numbers[-1], numbers[0]), 2, list(numbers), names, LAYOUT.verify, LAYOUT.means)
    pool = make(layout=layout)
    prompts = [(a, b) for a in numbers for b in numbers][:size]
    state = load(save(pool._state_of(Pool(prompts, torch.rand(size, 12), [2, 0, 1]))))
    assert pool._prompts(state) == [prompts[2], prompts[0], prompts[1], *prompts[3:]]
    # K = 4 places for three prompts in use: the first one again.
    assert pool.emitted(state).tolist() == [list(prompts[n]) for n in (2, 0, 1, 2)]
    assert pool.emitted(state).dtype == torch.int64


def test_rounds_are_counted():
    pool, world = make(), World(BATCH, overlap(HIDDEN))
    assert [int(part.state["age"]) for part in run_rounds(pool, world, 3)] == [1, 2, 3]
    assert int(pool.holding(torch.tensor(OTHER))["age"]) == 0


def test_a_state_can_hold_a_single_prompt():
    pool = make()
    state = pool.holding(torch.tensor(OTHER))
    assert pool.emitted(state).tolist() == [list(OTHER)] * 4
    assert torch.equal(pool.with_prompt(BATCH.tokens_BT, state), behind(OTHER).tokens_BT)
    numbers = pool.diagnostics(state)
    assert (numbers["pool"], numbers["emitted"], numbers["words_changed"]) == (1, 1, 1)
    # NaN, because nothing was played under it.
    assert numbers["best_record"] != numbers["best_record"]


def test_diagnostics_by_hand():
    pool = make(emit=2, pool=4, problems=5)
    score_NV = torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    prompts = [words(1, 0, 3), words(0, 2, 0), SEED]
    state = pool._state_of(Pool(prompts, score_NV, [0, 1]))
    expected = {"pool": 3, "frontier": 2, "emitted": 2, "best_record": 0.75, "words_changed": 2 / 3, "rounds": 0}
    assert pool.diagnostics(state) == pytest.approx(expected)
    fresh = pool.diagnostics(pool.initial())
    assert (fresh["pool"], fresh["emitted"], fresh["words_changed"], fresh["rounds"]) == (1, 1, 0, 0)
    # Nothing has been scored yet.
    assert fresh["best_record"] != fresh["best_record"]
