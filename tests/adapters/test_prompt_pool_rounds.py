"""A round of search: what it costs, what it plays, and that a seed decides it."""

from __future__ import annotations

import importlib.util
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from toy_pools import BATCH, HIDDEN, best_prompt, run_rounds
from toy_prompts import LAYOUT, PLACES, SEED, World, make, overlap, words

from ttt.prompts.evolve import Pool


def never(prompt, problem):
    return 0.0


def rarely(prompt, problem):
    """A chance that is never 1, so that rewards stay random."""
    return 0.5 * overlap(HIDDEN)(prompt, problem)


@given(
    emit=st.integers(1, 5),
    larger=st.integers(0, 5),
    proposals=st.integers(1, 4),
    minibatch=st.integers(1, 20),
    scored=st.integers(1, 20),
    budget=st.integers(0, 150),
    rows=st.integers(1, 16),
    search=st.sampled_from(["pool", "pool", "gepa"]),
    proposer=st.sampled_from(["mutate", "informed"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_a_round_stays_within_its_budget(
    emit, larger, proposals, minibatch, scored, budget, rows, search, proposer, seed
):
    if search == "gepa" and importlib.util.find_spec("gepa") is None:
        search = "pool"
    torch.manual_seed(seed)
    batch = BATCH.rows(0, rows)
    sizes = {"emit": emit, "pool": emit + larger, "proposals": proposals, "minibatch": minibatch, "problems": scored}
    pool = make(search=search, proposer=proposer, **sizes)
    world, state, before = World(batch, overlap(HIDDEN)), pool.initial(), 0
    for _ in range(3):
        outcome = pool.evolve(state, world, batch, budget=budget)
        assert outcome.used == world.played - before <= budget
        # Any budget is put to use; without one nothing changes.
        assert (outcome.used > 0) == (budget > 0)
        assert budget or not any(x.any() for x in outcome.state.values())
        before, state = world.played, pool.carry(outcome.state)
        check_state(pool, state, emit=emit, size=emit + larger)


def check_state(pool, state, *, emit, size):
    assert {name: x.shape for name, x in state.items()} == {name: x.shape for name, x in pool.initial().items()}
    assert all(x.dtype == torch.float32 and not x.requires_grad for x in state.values())
    assert int(state["size"]) <= size
    prompts = pool._prompts(state)
    assert len(set(prompts)) == len(prompts)
    assert {word for prompt in prompts for word in prompt} <= set(LAYOUT.words)
    assert len(pool.emitted(state)) == emit
    assert {tuple(prompt) for prompt in pool.emitted(state).tolist()} <= set(prompts)


def test_a_full_round_costs_what_the_settings_say():
    """Each stage of a round asks for all its rollouts at once."""
    torch.manual_seed(0)
    pool, world = make(proposer="mutate", accept="equal"), World(BATCH, never)
    rounds = run_rounds(pool, world, 6, budget=10_000)
    sizes = [1, *(int(outcome.state["size"]) for outcome in rounds)]
    pairs = list(itertools.pairwise(sizes))
    assert any(after - before == 3 for before, after in pairs)
    for (before, after), outcome in zip(pairs, rounds, strict=True):
        if after - before == 3:
            # All prompts are equally bad here, so the seed prompt is still in the pool. The pool is
            # scored, three parents and three children are tried, and three children are accepted.
            assert outcome.used == before * 12 + 3 * 4 + 3 * 4 + 3 * 12
    assert sizes[-1] == 8
    assert max(outcome.used for outcome in rounds) <= 9 * 12 + 3 * (2 * 4 + 12)
    assert len(world.calls) <= 4 * 6
    assert all(len(call) >= 4 for call in world.calls)


def test_a_budget_below_the_pool_scores_the_best_of_it():
    pool = make(proposer="callable", propose="toy_prompts:same")
    prompts = [words(n, 0, 0) for n in range(1, 6)]
    world = World(BATCH, never)
    (outcome,) = run_rounds(pool, world, 1, state=pool._state_of(Pool(prompts, torch.zeros(5, 12), [4, 0])), budget=3)
    assert world.calls == [[(0, prompts[4]), (0, prompts[0]), (0, prompts[1])]]
    assert pool._prompts(outcome.state) == [prompts[4], prompts[0], prompts[1]]


def test_a_small_budget_is_spread():
    """First there are fewer proposals, then fewer problems; without a budget nothing changes."""
    pool = make()
    # (budget, problems on which the pool is scored, proposals that are tried)
    cases = ((200, 12, 3), (33, 12, 1), (32, 12, 1), (31, 11, 1), (18, 5, 1), (10, 1, 1), (9, 9, 0))
    for budget, scored, tried in cases:
        torch.manual_seed(0)
        world = World(BATCH, never)
        outcome = pool.evolve(pool.initial(), world, BATCH, budget=budget)
        assert int(outcome.state["problems"]) == len(world.calls[0]) == scored, budget
        assert sum(len(call) for call in world.calls[1:2]) == 4 * tried, budget
    world = World(BATCH, never)
    outcome = pool.evolve(pool.initial(), world, BATCH, budget=0)
    assert (outcome.used, len(outcome.rollouts.reward_R), world.calls) == (0, 0, [])
    assert not any(x.any() for x in outcome.state.values())


KINDS = [("mutate", "pool"), ("informed", "pool"), ("random", "pool"), ("mutate", "gepa"), ("informed", "gepa")]


@pytest.mark.parametrize(("proposer", "search"), KINDS)
def test_a_seed_decides_everything_and_a_round_can_be_resumed(proposer, search):
    if search == "gepa":
        pytest.importorskip("gepa")

    def run(seed, *, stop=False):
        torch.manual_seed(seed)
        pool, world = make(search=search, proposer=proposer), World(BATCH, rarely)
        state = run_rounds(pool, world, 2)[-1].state
        if stop:
            # After a restart only the state and torch's generator come from a file.
            saved = save(state | {"rng": torch.get_rng_state()})
            torch.rand(17)
            state = load(saved)
            torch.set_rng_state(state.pop("rng"))
            pool, world = make(search=search, proposer=proposer), World(BATCH, rarely)
        return run_rounds(pool, world, 3, state=state)[-1]

    whole = run(0)
    for again in (run(0), run(0, stop=True)):
        assert all(torch.equal(again.state[name], x) for name, x in whole.state.items())
        assert torch.equal(again.rollouts.reward_R, whole.rollouts.reward_R)
    assert any(not torch.equal(run(1).state[name], x) for name, x in whole.state.items())


def test_a_child_is_tried_on_the_problems_of_its_parent():
    pool = make(proposals=2, proposer="callable", propose="toy_prompts:towards_five")
    world = World(BATCH, lambda prompt, problem: float(prompt != SEED))
    torch.manual_seed(0)
    run_rounds(pool, world, 1)
    scored, parents, children, accepted = world.calls
    assert [row for row, _ in scored] == list(range(12))
    assert {prompt for _, prompt in parents} == {SEED}
    # Both parents lead to the same child, which is tried once.
    assert [row for row, _ in children] == [row for row, _ in parents][:4]
    assert len({row for row, _ in children}) == 4
    assert {prompt for _, prompt in children} == {words(5, 0, 0)}
    assert [row for row, _ in accepted] == list(range(12))


def test_rollouts_are_returned_for_prompts_in_use_only():
    torch.manual_seed(0)
    pool, state = make(emit=2, proposer="informed"), None
    for _ in range(5):
        world = World(BATCH, overlap(HIDDEN))
        (outcome,) = run_rounds(pool, world, 1, state=state)
        state, rollouts = outcome.state, outcome.rollouts
        in_use = {tuple(prompt) for prompt in pool.emitted(state).tolist()}
        prompts = [tuple(prompt) for prompt in rollouts.prompt_RP.tolist()]
        assert set(prompts) == in_use
        # They are all that this round has played under those prompts.
        played = [pair for call in world.calls for pair in call if pair[1] in in_use]
        assert sorted(zip(rollouts.problem_R.tolist(), prompts, strict=True)) == sorted(played)
        right_RA = LAYOUT.answers(BATCH)[rollouts.problem_R]
        assert torch.equal((rollouts.answer_RA == right_RA).all(1).float(), rollouts.reward_R)


def test_random_prompts_are_not_selected():
    torch.manual_seed(0)
    pool, world = make(proposer="random"), World(BATCH, overlap(HIDDEN))
    rounds = run_rounds(pool, world, 50, budget=0)
    assert world.calls == []
    assert {outcome.used for outcome in rounds} == {0}
    drawn = torch.stack([pool.emitted(outcome.state) for outcome in rounds])
    # 200 draws of 6 ** 3 prompts.
    assert len(drawn.flatten(0, 1).unique(dim=0)) > 100
    # Each word is expected 100 times, with a standard deviation of 9.
    assert (drawn.flatten().bincount()[LAYOUT.words[0] :] - 100).abs().max() < 40
    assert len(rounds[-1].rollouts.reward_R) == 0
    assert rounds[-1].rollouts.prompt_RP.shape == (0, PLACES)


def test_gepa_searches_in_silence(capsys):
    pytest.importorskip("gepa")
    torch.manual_seed(0)
    pool, world = make(search="gepa", proposer="informed"), World(BATCH, overlap(HIDDEN))
    rounds = run_rounds(pool, world, 4, budget=160)
    # gepa ignores proposals of an adapter without `propose_new_texts`, and the pool stays at one.
    assert len(pool._prompts(rounds[0].state)) > 1
    assert best_prompt(pool, rounds[-1].state) == HIDDEN
    assert capsys.readouterr() == ("", "")
    # The budget is spent, except for what one more proposal might have cost.
    assert all(160 - (2 * 4 + 12) < outcome.used <= 160 for outcome in rounds)


def test_gepa_starts_from_the_best_prompt_scored_anew():
    pytest.importorskip("gepa")
    pool, world = make(search="gepa", proposer="callable", propose="toy_prompts:same"), World(BATCH, never)
    state = pool._state_of(Pool([words(4, 4, 5), HIDDEN], torch.tensor([[0.0] * 12, [1.0] * 12]), [1, 0]))
    (outcome,) = run_rounds(pool, world, 1, state=state)
    assert {prompt for _, prompt in world.calls[0]} == {HIDDEN}
    assert pool._prompts(outcome.state) == [HIDDEN]
    assert float(outcome.state["record"].sum()) == 0


def test_errors_inside_gepa_are_raised():
    pytest.importorskip("gepa")
    pool, world = make(search="gepa"), World(BATCH, never)

    def broken(prompt, records):
        raise IndexError("a mistake of ours")

    pool._propose = broken
    with pytest.raises(IndexError, match="of ours"):
        pool.evolve(pool.initial(), world, BATCH, budget=100)
