"""Which prompts a search keeps and puts to use: those that earn most now."""

from __future__ import annotations

import pytest
import torch
from toy_pools import BATCH, HIDDEN, OTHER, best_prompt, run_rounds
from toy_prompts import SEED, World, make, overlap, words

from ttt.prompts.evolve import Pool


def true_chance(proposer, *, seed, count):
    """The chance of success under the prompt that is ranked first after some rounds."""
    torch.manual_seed(seed)
    pool, chance = make(proposer=proposer), overlap(HIDDEN)
    return chance(best_prompt(pool, run_rounds(pool, World(BATCH, chance), count)[-1].state), 0)


def test_the_pool_improves_and_knowledge_makes_it_faster():
    means = {}
    for name in ("mutate", "informed"):
        means[name] = sum(true_chance(name, seed=seed, count=4) for seed in range(12)) / 12
    # The chance of the seed prompt is 0, and that of the hidden prompt 1.
    assert means["informed"] > 0.9
    assert 0.3 < means["mutate"] < means["informed"] - 0.2
    late = [true_chance("mutate", seed=seed, count=40) for seed in range(4)]
    assert sum(late) / 4 > 0.9


def test_prompts_are_ranked_by_what_they_earn_now():
    """The best prompt becomes worthless and a worthless one the best; nothing new is proposed."""
    pool = make(proposer="callable", propose="toy_prompts:same")
    score_NV = torch.tensor([[1.0] * 12, [0.0] * 12])
    state = pool._state_of(Pool([HIDDEN, OTHER], score_NV, [0, 1]))
    assert best_prompt(pool, state) == HIDDEN
    (outcome,) = run_rounds(pool, World(BATCH, lambda prompt, problem: float(prompt == OTHER)), 1, state=state)
    assert best_prompt(pool, outcome.state) == OTHER
    prompts = pool._prompts(outcome.state)
    record = {prompt: float(outcome.state["record"][0, n].mean()) for n, prompt in enumerate(prompts)}
    assert record == {OTHER: 1.0, HIDDEN: 0.0, SEED: 0.0}


def test_the_seed_prompt_stays_a_candidate():
    """It left the pool of one prompt, and returns when it is best."""
    pool = make(emit=1, pool=1, proposer="callable", propose="toy_prompts:same")
    state = pool.holding(torch.tensor(OTHER))
    (outcome,) = run_rounds(pool, World(BATCH, lambda prompt, problem: float(prompt == SEED)), 1, state=state)
    assert best_prompt(pool, outcome.state) == SEED
    assert int(outcome.state["size"]) == 1


def test_specialists_are_used_as_a_cover():
    """K = 3 prompts in use are the best one and the two that add most problems to it."""
    solved = {words(1, 0, 0): range(0, 6), words(2, 0, 0): range(0, 5), words(3, 0, 0): range(6, 10),
              words(4, 0, 0): range(10, 12)}  # fmt: skip
    pool = make(emit=3, proposer="callable", propose="toy_prompts:same")
    state = pool._state_of(Pool(list(solved), torch.zeros(4, 12), [3, 2, 1]))
    world = World(BATCH, lambda prompt, problem: float(problem in solved.get(prompt, ())))
    (outcome,) = run_rounds(pool, world, 1, state=state)
    in_use = [tuple(prompt) for prompt in pool.emitted(outcome.state).tolist()]
    assert in_use == [words(1, 0, 0), words(3, 0, 0), words(4, 0, 0)]
    # The prompt that another one dominates stays in the pool, behind the frontier.
    assert set(pool._prompts(outcome.state)[3:]) == {words(2, 0, 0), SEED}
    assert pool.diagnostics(outcome.state)["frontier"] == 3


@pytest.mark.parametrize(("accept", "accepted"), [("improvement", 0), ("equal", 1)])
def test_a_child_as_good_as_its_parent(accept, accepted):
    pool = make(proposer="callable", propose="toy_prompts:towards_five", accept=accept)
    # Nothing pays, so parent and child are equally good.
    (outcome,) = run_rounds(pool, World(BATCH, lambda prompt, problem: 0.0), 1)
    assert int(outcome.state["size"]) == 1 + accepted


def test_a_parent_without_mistakes_has_no_children():
    pool = make(proposer="callable", propose="toy_prompts:towards_five", accept="equal")
    (outcome,) = run_rounds(pool, World(BATCH, lambda prompt, problem: 1.0), 1)
    assert int(outcome.state["size"]) == 1
    # Twelve scores of the pool, and three minibatches of its one prompt.
    assert outcome.used == 12 + 3 * 4
