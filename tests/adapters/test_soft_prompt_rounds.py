"""A round of gradient steps on soft prompts: the formula, its budget, and what it moves.

Shapes: R rollouts, P prompt, D model width.
"""

from __future__ import annotations

import pytest
import torch
from policies import ALONE
from small_policy import is_even, no_reward, small_policy, soft_policy

from ttt.learner import slow_hash
from ttt.objectives.policy_loss import policy_loss
from ttt.prompts.gradient import BETA1, BETA2, EPS, Ascent
from ttt.prompts.rollouts import Play, Rollouts, evenly
from ttt.prompts.vectors import predict


def toy_play(values: torch.Tensor) -> tuple[Play, list[Rollouts]]:
    """Return a policy that answers with one of two tokens, and the list of its rollouts.

    The logits of the tokens are -s and s, where s is the product of a prompt with `values`; the
    second token pays.
    """
    played: list[Rollouts] = []

    def logp(prompt_RPD: torch.Tensor) -> torch.Tensor:
        s_R = (prompt_RPD.flatten(1) * values).sum(1)
        return torch.stack([-s_R, s_R], 1).log_softmax(-1)

    def answer(problem_R, prompt_RPD):
        logp_RV = logp(prompt_RPD.detach())
        token = torch.multinomial(logp_RV.exp(), 1)
        played.append(Rollouts(problem_R, prompt_RPD, token, logp_RV.gather(1, token), token[:, 0].float()))
        return played[-1]

    def loss(rollouts: Rollouts) -> torch.Tensor:
        read = lambda part: logp(part.prompt_RP)[:, None]  # noqa: E731
        return policy_loss(rollouts, read, baseline="problem", clip=4.0, read_all=True).value

    return Play(answer, loss, group=4), played


def normalised(rewards: torch.Tensor) -> torch.Tensor | None:
    """Advantages within a group; None if all rewards are equal."""
    spread = rewards.std(unbiased=False)
    return None if spread == 0 else (rewards - rewards.mean()) / spread


def toy_gradient(rollouts: Rollouts, prompt, values) -> torch.Tensor:
    """Return the gradient of the toy's loss by hand: d log p(y) / ds = sign - (p1 - p0)."""
    gradient, mixed = torch.zeros_like(prompt), 0
    for problem in rollouts.problem_R.unique():
        group = [i for i in range(12) if rollouts.problem_R[i] == problem]
        advantages = normalised(rollouts.reward_R[group])
        if advantages is None:
            continue
        mixed += 1
        for i, advantage in zip(group, advantages, strict=True):
            # Two of the four rollouts of a problem for each of two prompts.
            k = (i % 4) // 2
            s = (prompt[k].flatten() * values).sum()
            p = torch.stack([-s, s]).softmax(0)
            slope = (2.0 * rollouts.answer_RA[i, 0] - 1) - (p[1] - p[0])
            gradient[k] -= float(advantage) * slope * values.view(2, 16) / 4
    assert mixed > 0
    return gradient / mixed


def test_two_steps_are_the_formula_written_out():
    """The gradient as a loop over rollouts, Adam by hand, and prompts ranked by what they earned."""
    torch.manual_seed(1)
    policy = soft_policy("adapter.emit=2", "adapter.step=0.01", "adapter.problems=3", "adapter.steps=2")
    values, start = torch.linspace(-1, 1, 32), 0.05 * policy.random_prompts()[:2]
    play, played = toy_play(values)
    state = policy.adapter.initial() | {"prompt": start[None]}
    after = policy.adapter.evolve(state, play, policy.tasks[0].batch(0), budget=1000)
    assert after.used == 2 * 3 * 4
    prompt, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
    earned = [0.0, 0.0]
    for number, rollouts in enumerate(played, start=1):
        for i, reward in enumerate(rollouts.reward_R.tolist()):
            earned[(i % 4) // 2] += reward
        gradient = toy_gradient(rollouts, prompt, values)
        first, second = BETA1 * first + (1 - BETA1) * gradient, BETA2 * second + (1 - BETA2) * gradient**2
        step = first / (1 - BETA1**number) / ((second / (1 - BETA2**number)).sqrt() + EPS)
        prompt = prompt - 0.01 * step
    order = [0, 1] if earned[0] >= earned[1] else [1, 0]
    torch.testing.assert_close(after.state["prompt"][0], prompt[order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.state["first"][0], first[order], rtol=1e-3, atol=1e-5)
    assert after.state["record"][0].tolist() == pytest.approx([earned[k] / 12 for k in order])
    assert float(after.state["steps"]) == 2


@pytest.mark.parametrize("baseline", ["problem", "prompt"])
def test_the_loss_of_a_round_is_that_of_a_slow_step(baseline):
    """Compare its gradient with that of the formula, by autograd through the real model."""
    policy = soft_policy("adapter.emit=2", "objective.rollouts=4", f"objective.baseline={baseline}")
    batch, layout, prompt = policy.tasks[0].batch(0), policy.layout, policy.random_prompts()[:2]
    policy.pay(is_even)
    seen: list[tuple[Rollouts, torch.Tensor]] = []

    def evolve(state, play, batch, *, budget):
        leaf = prompt.clone().requires_grad_()
        problem_R, lane_R = evenly(torch.tensor([0, 3]), group=play.group, prompts=2)
        rollouts = play(problem_R, leaf[lane_R])
        seen.append((rollouts, *torch.autograd.grad(play.loss(rollouts), leaf)))
        # Nothing after the loss matters here, and there is no state to return.
        raise StopIteration

    policy.adapter.evolve = evolve
    torch.manual_seed(0)
    with pytest.raises(StopIteration):
        policy.objective._run_round(policy.learner, batch)
    ((rollouts, gradient),) = seen
    leaf, losses = prompt.clone().requires_grad_(), []
    groups = [[0, 1, 2, 3], [4, 5, 6, 7]] if baseline == "problem" else [[0, 1], [2, 3], [4, 5], [6, 7]]
    for group in groups:
        advantages = normalised(rollouts.reward_R[group])
        if advantages is None:
            continue
        terms = []
        for i, advantage in zip(group, advantages, strict=True):
            row = torch.cat([batch.tokens_BT[rollouts.problem_R[i], :-3], rollouts.answer_RA[i, :-1]])
            logits = predict(policy.model, row[None], leaf[(i % 4) // 2][None])[0, -layout.answer_len :]
            terms.append(-advantage * logits.log_softmax(-1).gather(1, rollouts.answer_RA[i][:, None]).mean())
        losses.append(sum(terms) / len(terms))
    assert losses
    (sum(losses) / len(losses)).backward()
    assert float(leaf.grad.norm()) > 0
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-3, atol=1e-6)


def test_a_round_moves_prompts_and_a_slow_step_moves_weights():
    policy = soft_policy("objective.cycle.slow_steps=2", "optimizer=sgd", "optimizer.lr=1.0")
    learner = policy.learner
    policy.pay(is_even)
    slow = slow_hash(policy.model)
    policy.objective._run_round(learner, policy.tasks[0].batch(0))
    assert slow_hash(policy.model) == slow
    assert all(parameter.grad is None for parameter in policy.model.parameters())
    prompts = learner.fast["prompt"]
    assert prompts.any()
    assert len(prompts[0].flatten(1).unique(dim=0)) == 4
    # The second step of a cycle of two, before which no round is due.
    policy.objective._steps += 1
    policy.steps(1)
    assert slow_hash(policy.model) != slow
    assert torch.equal(learner.fast["prompt"], prompts)
    # The next step begins a cycle.
    policy.steps(1)
    assert not torch.equal(learner.fast["prompt"], prompts)
    assert not learner.fast["prompt"].requires_grad


def test_without_a_reward_prompts_stay_where_they_began():
    policy = soft_policy("adapter.steps=2")
    policy.pay(no_reward)
    policy.steps(1)
    started = policy.learner.fast["prompt"]
    assert started.any()
    policy.steps(3)
    assert torch.equal(policy.learner.fast["prompt"], started)


def test_first_prompts_are_small_and_drawn_in_the_round():
    policy = soft_policy("adapter.spread=0.2", "adapter.step=1e-9")
    adapter, embedding, prompts = policy.adapter, policy.model.embed_tokens.weight.detach(), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        play, _ = toy_play(torch.ones(32))
        prompts.append(adapter.evolve(adapter.initial(), play, policy.tasks[0].batch(0), budget=99).state["prompt"])
    assert float(prompts[0].std() / embedding.std()) == pytest.approx(0.2, rel=0.2)
    # Another seed gives other prompts: they are drawn from torch's global generator.
    assert not torch.equal(prompts[0], prompts[1])


def test_steps_and_problems_fit_the_budget():
    ascent = Ascent(emit=2, step=0.1, steps=5, problems=4, spread=0.1)
    fits = {0: (0, 0), 7: (0, 0), 8: (1, 1), 31: (1, 3), 32: (1, 4), 95: (2, 4), 999: (5, 4)}
    assert {budget: ascent.fit(rows=16, group=8, budget=budget) for budget in fits} == fits
    assert ascent.fit(rows=3, group=8, budget=50) == (2, 3)


def test_rollouts_of_a_round_are_counted_apart():
    policy = soft_policy("objective.cycle.fast_budget=31")
    played = policy.pay(is_even)
    (progress,) = policy.steps(1)
    # One step on two problems of eight rollouts, then the slow step on four problems.
    assert [len(rollouts.reward_R) for rollouts in played] == [16, 32]
    terms = progress.terms
    assert (terms["fast_rollouts"], terms["rollouts"], terms["rounds"]) == (16, 32, 1)


def test_without_a_budget_it_is_reinforcement_learning_alone():
    """Not even a random number is drawn."""
    prompted, alone = soft_policy("objective.cycle.fast_budget=0"), small_policy(*ALONE, size=8.0)
    for policy in (prompted, alone):
        policy.pay(is_even)
        torch.manual_seed(0)
        policy.steps(4)
    assert not any(x.any() for x in prompted.learner.fast.values())
    # Close, not equal: under vectors every row is read by itself, which rounds differently.
    weights = [policy.model.embed_tokens.weight for policy in (prompted, alone)]
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


def test_every_prompt_answers_every_problem_equally_often():
    policy = soft_policy()
    played = policy.pay(is_even)
    policy.steps(1)
    *fast, slow = played
    assert [len(rollouts.reward_R) for rollouts in fast] == [16, 16]
    first_prompts = fast[0].prompt_RP.detach().flatten(1).unique(dim=0)
    for rollouts, prompts in ((slow, policy.objective.prompts(policy.learner)), (fast[0], first_prompts)):
        for problem in rollouts.problem_R.unique():
            for prompt in prompts:
                is_same_R = (rollouts.prompt_RP.flatten(1) == prompt.flatten()).all(1)
                assert int((is_same_R & (rollouts.problem_R == problem)).sum()) == 2
    assert slow.problem_R.unique().tolist() == [0, 1, 2, 3]
    # Each step of a round takes other problems.
    assert [rollouts.problem_R.unique().tolist() for rollouts in fast] == [[0, 1], [2, 3]]
