"""The slow step of `objective=reward` is the policy gradient, and it learns what pays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from policies import ALONE, POOL
from small_policy import no_reward, small_policy

from ttt.learner import slow_hash
from ttt.objectives.policy_loss import policy_loss
from ttt.prompts.rollouts import Rollouts
from ttt.training.train import loss_of


def mixed_rewards(rollouts: Rollouts) -> torch.Tensor:
    """Rewards without a pattern, because a new model hardly ever earns one."""
    return torch.tensor([(i * 2654435761 >> 7) % 3 == 0 for i in range(len(rollouts.reward_R))])


def gradient_of(model) -> torch.Tensor:
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    return gradient


@pytest.mark.parametrize(("adapter", "temperature"), [(POOL, 1.0), (ALONE, 1.0), (ALONE, 0.5)])
def test_the_slow_step_is_the_policy_gradient_written_out(adapter, temperature):
    """Compare with a loop over rollouts, problems and tokens that follows the formula."""
    policy = small_policy(
        *adapter, "objective.rollouts=4", "objective.cycle.fast_budget=0", f"objective.temperature={temperature}"
    )
    layout, batch, played = policy.layout, policy.tasks[0].batch(0), policy.pay(mixed_rewards)
    loss_of(policy.learner, policy.recipe, batch, step=0).backward()
    # Without a budget no round was played: these are the rollouts of the slow step.
    (rollouts,), gradient = played, gradient_of(policy.model)
    logp = (policy.model(rollouts.rows(batch, layout))[:, -layout.answer_len :] / temperature).log_softmax(-1)
    sampled = logp.gather(2, rollouts.answer_RA[..., None])[..., 0]
    torch.testing.assert_close(rollouts.logp_RA, sampled.detach(), atol=1e-4, rtol=0)
    losses = []
    for problem in range(4):
        group = [i for i in range(16) if int(rollouts.problem_R[i]) == problem]
        rewards = rollouts.reward_R[group]
        if rewards.std(unbiased=False) == 0:
            continue
        advantages = (rewards - rewards.mean()) / rewards.std(unbiased=False)
        terms = []
        for i, advantage in zip(group, advantages, strict=True):
            tokens = [logp[i, t, rollouts.answer_RA[i, t]] for t in range(layout.answer_len)]
            terms.append(-advantage * sum(tokens) / len(tokens))
        losses.append(sum(terms) / len(terms))
    # Otherwise the comparison would be empty.
    assert len(losses) > 0
    (sum(losses) / len(losses)).backward()
    expected = gradient_of(policy.model)
    assert float(expected.norm()) > 0
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)


def test_problems_with_equal_rewards_are_not_read_and_change_nothing():
    """The gradient is that of all rows, because equal rewards mean advantages of zero."""
    policy = small_policy(*ALONE)
    objective, learner, batch = policy.objective, policy.learner, policy.tasks[0].batch(0)
    # 4 problems with 8 rollouts each, in this order.
    parameters = list(learner.model.parameters())
    reward_R = torch.zeros(32)
    # Of the four problems, the first has mixed rewards and the second earns every one.
    reward_R[0], reward_R[8:16] = 1.0, 1.0
    sampled = objective._rollouts(learner, batch, objective.prompts(learner), None)
    rollouts = replace(sampled, reward_R=reward_R)
    logp, read = objective._logp, []
    objective._logp = lambda learner, batch, part: read.append(len(part.reward_R)) or logp(learner, batch, part)
    gradients = torch.autograd.grad(objective._slow_loss(learner, batch, rollouts), parameters)
    # Only the problem with mixed rewards was read.
    assert read == [8]
    advantage_R = (reward_R[:8] - 1 / 8) / reward_R[:8].std(correction=0)
    logp_RA = logp(learner, batch, rollouts).gather(2, rollouts.answer_RA[..., None])[..., 0]
    expected = torch.autograd.grad(-(advantage_R[:, None] * logp_RA[:8]).mean(), parameters)
    for gradient, by_hand in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, by_hand, atol=1e-5, rtol=1e-4)
    unpaid = replace(sampled, reward_R=torch.zeros(32))
    zeros = torch.autograd.grad(objective._slow_loss(learner, batch, unpaid), parameters)
    assert read == [8]
    assert all(not bool(gradient.any()) for gradient in zeros)


def test_log_probabilities_that_moved_since_sampling_are_refused():
    """A wrong mask, prompt or temperature would otherwise train on wrong importance weights."""
    policy = small_policy(*ALONE)
    objective, learner, batch = policy.objective, policy.learner, policy.tasks[0].batch(0)
    rollouts = objective._rollouts(learner, batch, objective.prompts(learner), None)

    def loss(shift: float):
        moved = lambda part: objective._logp(learner, batch, part) + shift  # noqa: E731
        return policy_loss(rollouts, moved, baseline="problem", clip=4.0, read_all=True)

    assert loss(0.1).logp_gap == pytest.approx(0.1, abs=1e-3)
    for shift in (1.0, float("nan")):
        with pytest.raises(RuntimeError, match="nats"):
            loss(shift)


def test_without_a_reward_nothing_moves():
    # Plain SGD at a large rate: any gradient would show, and weight decay is off.
    policy = small_policy(*ALONE, "optimizer=sgd", "optimizer.lr=1.0")
    policy.pay(no_reward)
    before = slow_hash(policy.model)
    policy.steps(2)
    assert slow_hash(policy.model) == before


def test_a_reward_for_one_token_is_learned():
    """Answers that begin with a 7 pay: a problem that is learned within seconds."""
    policy = small_policy(*ALONE, "optimizer.lr=1e-2", "objective.rollouts=16")
    policy.pay(lambda rollouts: rollouts.answer_RA[:, 0] == 7)
    rewards = [progress.watched["reward"] for progress in policy.steps(40)]
    # Means over five steps, because a step has only 64 answers.
    assert sum(rewards[:5]) / 5 < 0.4
    assert sum(rewards[-5:]) / 5 > 0.9


@pytest.mark.parametrize("kind", ["words", "vectors"])
def test_distillation_moves_the_bare_model_towards_the_prompted_one(kind):
    typed = ("objective.learn_from=prompt", "objective.cycle.rounds=0", "optimizer.lr=3e-3")
    if kind == "words":
        policy = small_policy(*POOL, *typed, size=5.0)
        words = [word for word in policy.layout.words if word not in policy.layout.seed_prompt]
        prompt = torch.tensor(words[:2])
    else:
        policy = small_policy("adapter=soft_prompt", *typed, size=8.0)
        prompt = policy.random_prompts()[0]
    policy.learner.fast = policy.adapter.holding(prompt)
    losses = [progress.loss for progress in policy.steps(30)]
    assert losses[0] > 0.01
    assert sum(losses[-5:]) < sum(losses[:5])
