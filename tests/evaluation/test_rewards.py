"""What a policy earns and how far it is from the base, in every mode; evaluation only reads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from policies import ALONE, POOL
from small_policy import SmallPolicy, small_policy, soft_policy

from ttt.evaluation.rewards import KL_SEED, contexts, exact_rewards, kl_from_base
from ttt.kernels import policy as policy_kernels
from ttt.learner import cross_entropy, slow_hash
from ttt.prompts.rollouts import sample_answers
from ttt.prompts.vectors import predict


@torch.enable_grad()
def imitator() -> SmallPolicy:
    """A policy that has half learned the right answers to the evaluation's problems."""
    policy = small_policy(*ALONE, "optimizer.lr=1e-2")
    batch = policy.tasks[0].evaluation()
    for _ in range(40):
        policy.engine.optimizer.zero_grad()
        cross_entropy(policy.model(batch.tokens_BT), batch, reduction="mean").backward()
        policy.engine.optimizer.step()
    return policy


@torch.no_grad()
def test_reward_is_that_of_greedy_answers_and_success_that_of_sampled_ones():
    policy = imitator()
    layout, batch = policy.layout, policy.tasks[0].evaluation()
    rewards = exact_rewards(policy.model(batch.tokens_BT), batch, layout)
    context, _ = contexts(policy.learner, batch, policy.learner.fast, layout)

    def share_right(rows: torch.Tensor, temperature: float) -> float:
        answers, _ = sample_answers(
            lambda x, cache: policy.model(x, cache=cache), rows, length=layout.answer_len, temperature=temperature
        )
        verdicts = layout.verify(batch.pick(np.arange(len(rows)) % len(batch.tokens_BT)), answers)
        return float(verdicts.float().mean())

    assert 0.2 < rewards["success"] < rewards["reward"] < 1
    assert rewards["reward"] == pytest.approx(share_right(context, 0))
    torch.manual_seed(0)
    # 8 problems, 200 answers to each: a standard error below 0.02.
    assert rewards["success"] == pytest.approx(share_right(context.repeat(200, 1), 1.0), abs=0.05)


@torch.no_grad()
def test_distance_from_the_base_is_zero_at_the_base_and_grows():
    policy = small_policy(*ALONE)
    context, _ = contexts(policy.learner, policy.tasks[0].evaluation(), policy.learner.fast, policy.layout)
    before = torch.get_rng_state()
    assert kl_from_base(policy.learner, policy.objective, context) == pytest.approx(0, abs=1e-6)
    assert torch.equal(torch.get_rng_state(), before)
    policy.model.embed_tokens.weight.mul_(3.0)
    assert kl_from_base(policy.learner, policy.objective, context) > 0.01


@torch.no_grad()
def test_distance_behind_vectors_is_that_of_the_formula():
    policy = soft_policy()
    learner, objective, length = policy.learner, policy.objective, policy.layout.answer_len
    state = policy.adapter.holding(policy.random_prompts()[0])
    context, added = contexts(learner, policy.tasks[0].evaluation(), state, policy.layout)
    assert kl_from_base(learner, objective, context, added) == pytest.approx(0, abs=1e-6)
    policy.model.embed_tokens.weight.mul_(1.2)
    torch.manual_seed(KL_SEED)
    answers, _ = sample_answers(
        lambda x, cache: predict(policy.model, x, added, cache=cache),
        context,
        length=length,
        temperature=1.0,
        alike=False,
    )
    rows = torch.cat([context, answers[:, :-1]], 1)
    learned, base = (
        predict(policy.model, rows, added, weights=weights)[:, -length:].log_softmax(-1)
        for weights in (None, objective.base)
    )
    expected = float(policy_kernels.kl(learned, base).mean()) / math.log(2)
    assert expected > 0
    assert kl_from_base(learner, objective, context, added) == pytest.approx(expected, rel=1e-4)


def scores_that_only_read(policy: SmallPolicy):
    """Evaluate, and assert that weights and random numbers are as before."""
    weights, random = slow_hash(policy.model), torch.get_rng_state()
    scores = policy.scores()
    assert slow_hash(policy.model) == weights
    assert torch.equal(torch.get_rng_state(), random)
    return scores


@torch.no_grad()
def test_modes_are_weights_times_words():
    """slow: learned weights, seed prompt; fast: base and prompt in use; carried: both; archived.

    The decomposition of the paper.
    """
    policy = small_policy(*POOL)
    layout, batch = policy.layout, policy.tasks[0].evaluation()
    policy.model.embed_tokens.weight.add_(torch.randn_like(policy.model.embed_tokens.weight) * 0.5)
    word = next(word for word in layout.words if word not in layout.seed_prompt)
    prompt = torch.tensor([word, layout.seed_prompt[1]])
    policy.learner.fast = policy.adapter.holding(prompt)
    policy.objective.archive[0] = torch.tensor(layout.seed_prompt)
    scores, rows = scores_that_only_read(policy), batch.tokens_BT.clone()
    rows[:, :2] = prompt
    for mode, weights, tokens in (
        ("slow", policy.weights(), batch.tokens_BT),
        ("fast", policy.objective.base, rows),
        ("carried", policy.weights(), rows),
        ("archived", policy.weights(), batch.tokens_BT),
    ):
        expected = exact_rewards(torch.func.functional_call(policy.model, weights, (tokens,)), batch, layout)
        assert scores[mode]["success"][0] == pytest.approx(expected["success"], abs=1e-6), mode
    assert scores["fast"]["kl"][0] == pytest.approx(0, abs=1e-6)
    assert scores["slow"]["kl"][0] > 0
    assert math.isnan(scores["carried"]["kl_words"][0])
    assert scores["slow"]["kl_words"][0] > 0


@torch.no_grad()
def test_modes_are_weights_times_vectors():
    policy = soft_policy()
    layout, batch = policy.layout, policy.tasks[0].evaluation()
    policy.model.embed_tokens.weight.add_(torch.randn_like(policy.model.embed_tokens.weight) * 0.1)
    prompts = policy.random_prompts()
    policy.learner.fast = policy.adapter.initial() | {"prompt": prompts[None]}
    policy.objective.archive[0] = prompts[2]
    scores = scores_that_only_read(policy)
    for mode, weights, prompt in (
        ("slow", policy.weights(), torch.zeros_like(prompts[0])),
        ("fast", policy.objective.base, prompts[0]),
        ("carried", policy.weights(), prompts[0]),
        ("archived", policy.weights(), prompts[2]),
    ):
        logits = predict(policy.model, batch.tokens_BT, prompt.expand(len(batch.tokens_BT), -1, -1), weights=weights)
        expected = exact_rewards(logits, batch, layout)["success"]
        assert scores[mode]["success"][0] == pytest.approx(expected, rel=1e-4), mode
    # Policy and base read the same prompt, so each prompt has a distance of its own.
    distances = [scores[mode]["kl"][0] for mode in ("slow", "carried", "archived")]
    assert min(distances) > 0
    assert len(set(distances)) == 3
    assert scores["fast"]["kl"][0] == 0
    assert scores["slow"]["kl_words"][0] > 0


@torch.no_grad()
def exact_divergence(policy: SmallPolicy, context: torch.Tensor, first: dict, second: dict, *, tokens: int) -> float:
    """KL(first || second) of answers of `tokens` tokens in bits, by adding up all of them."""
    vocabulary = policy.model.embed_tokens.weight.shape[0]
    every = torch.cartesian_prod(*[torch.arange(vocabulary)] * tokens).view(-1, tokens)
    total = 0.0
    for row in context:
        rows = torch.cat([row.expand(len(every), -1), every], 1)
        logp_first, logp_second = (
            torch.func.functional_call(policy.model, weights, (rows,))[:, -tokens - 1 : -1]
            .log_softmax(-1)
            .gather(2, every[..., None])
            .sum((1, 2))
            for weights in (first, second)
        )
        total += float((logp_first.exp() * (logp_first - logp_second)).sum())
    return total / len(context) / math.log(2)


@torch.no_grad()
@pytest.mark.parametrize("forward", [False, True])
def test_both_directions_are_the_divergence_of_whole_answers(forward):
    policy = small_policy("source.items=2", *ALONE, size=6.0)
    policy.model.embed_tokens.weight.add_(torch.randn_like(policy.model.embed_tokens.weight) * 0.3)
    context, _ = contexts(policy.learner, policy.tasks[0].batch(0), policy.learner.fast, policy.layout)
    pair = (policy.weights(), policy.objective.base)
    exact = exact_divergence(policy, context, *(reversed(pair) if forward else pair), tokens=2)
    # 500 samples of each context: two tokens, so twice the mean over tokens.
    sampled = 2 * kl_from_base(policy.learner, policy.objective, context.repeat(500, 1), forward=forward)
    assert exact > 0.05
    assert sampled == pytest.approx(exact, rel=0.03)


@torch.no_grad()
def test_the_forward_direction_is_measured_on_request():
    policy = small_policy(*POOL, "objective.drift=both")
    policy.model.embed_tokens.weight.add_(torch.randn_like(policy.model.embed_tokens.weight) * 0.5)
    policy.objective.archive[0] = torch.tensor(policy.layout.seed_prompt)
    scores = scores_that_only_read(policy)
    assert scores["slow"]["kl_forward"][0] != scores["slow"]["kl"][0] > 0
    assert scores["slow"]["kl_forward"][0] > 0
    assert scores["slow"]["kl_forward_words"][0] > 0
    assert scores["fast"]["kl_forward"][0] == 0
    assert math.isnan(scores["carried"]["kl_forward_words"][0])
    assert "kl_forward" not in small_policy(*ALONE).scores()["slow"]
