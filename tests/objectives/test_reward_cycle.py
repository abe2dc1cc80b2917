"""`objective=reward` alternates rounds and slow steps, and counts each rollout once."""

from __future__ import annotations

from itertools import product

import torch
from learning import begin_task
from policies import POOL
from small_policy import assembled, small_policy

from ttt.devices.one_device import OneDevice
from ttt.learner import slow_hash
from ttt.objectives.answers import match_rollouts
from ttt.objectives.cycle import Cycle
from ttt.prompts.rollouts import Rollouts


def test_rounds_come_before_every_so_many_slow_steps():
    endless, once = Cycle(160, 3, None), Cycle(160, 3, 1)
    assert [endless.is_due(steps=n, rounds=n // 3) for n in range(5)] == [True, False, False, True, False]
    assert [once.is_due(steps=n, rounds=min(n, 1)) for n in range(5)] == [True, False, False, False, False]


def test_rounds_end_where_the_cycle_ends_them():
    policy = small_policy(*POOL, "objective.cycle.rounds=1")
    assert policy.steps(4)[-1].terms["rounds"] == 1


def test_frozen_is_prompt_optimisation_alone():
    policy = small_policy(*POOL, "strategy=frozen")
    before = slow_hash(policy.model)
    # With cycles of three steps, rounds are due before the first and the fourth.
    terms = policy.steps(4)[-1].terms
    assert slow_hash(policy.model) == before
    assert terms["rounds"] == 2
    # No answers are sampled, or counted, for a step that moves nothing.
    assert terms["rollouts"] == 0
    assert terms["fast_rollouts"] > 0


def test_rollouts_of_the_search_are_reused():
    plain, saving = (small_policy(*POOL, f"objective.reuse={reuse}").steps(1)[0].terms for reuse in ("false", "true"))
    assert saving["rollouts"] < plain["rollouts"] == 32
    assert saving["fast_rollouts"] == plain["fast_rollouts"]


def test_matching_takes_each_rollout_once():
    # Three rollouts under one prompt: two of problem 0 and one of problem 1.
    prompt_RP = torch.zeros(3, 2, dtype=torch.long)
    rest = (torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1), torch.zeros(3))
    stock = Rollouts(torch.tensor([0, 0, 1]), prompt_RP, *rest)
    reused, missing = match_rollouts(torch.tensor([0, 0, 0, 2]), torch.zeros(4, 2, dtype=torch.long), stock)
    assert sorted(reused) == [0, 1]
    assert missing == [2, 3]


def test_every_prompt_answers_every_problem_equally_often():
    policy = small_policy(*POOL, "adapter.emit=4", "objective.rollouts=8", "adapter.proposer=random")
    played = policy.pay(lambda rollouts: rollouts.reward_R)
    policy.steps(1)
    prompts = policy.objective.prompts(policy.learner)
    for problem, prompt in product(range(4), prompts):
        matches = (played[-1].problem_R == problem) & (played[-1].prompt_RP == prompt).all(1)
        # Random prompts may repeat, and each repeat has rollouts of its own.
        assert int(matches.sum()) == 2 * int((prompts == prompt).all(1).sum())


def test_unannounced_tasks_do_not_reset_prompts():
    assembly = assembled(*POOL)
    assert not any(phase.announced for phase in assembly.stream.phases)
    engine = assembly.engine(OneDevice(torch.device("cpu"), precision="32-true"), None)
    # Anything but zeros, from which a reset could not be told.
    engine.learner.fast = {name: torch.ones_like(x) for name, x in engine.learner.fast.items()}
    begin_task(engine, assembly, 0)
    assert all(bool(x.all()) for x in engine.learner.fast.values())


def test_randomness_is_the_runs_own():
    """Two runs of one seed are equal and another seed differs, though all start from one base."""

    def entropies(seed: int) -> list[float]:
        policy = small_policy(*POOL, f"seed={seed}", "base.seed=0", "optimizer.lr=1e-2")
        return [progress.watched["entropy"] for progress in policy.steps(3)]

    assert entropies(1) == entropies(1) != entropies(2)
