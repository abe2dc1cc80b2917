"""Slow weights that imitate answers that they are shown: which, when, and by which loss."""

from __future__ import annotations

import pytest
import torch
from harness import only_run, run_here
from interrupted import interrupted_run
from policies import ALONE, RULES
from small_policy import no_reward, small_policy

from ttt.objectives.costs import Costs
from ttt.training.train import loss_of

QUIZ = (*ALONE, "objective.cycle.slow_steps=3", "objective.quiz=3")


def right_on_even_rows(rollouts):
    return rollouts.problem_R % 2 == 0


def test_the_loss_is_the_cross_entropy_of_what_failed_in_the_round():
    policy = small_policy(*QUIZ, "objective.learn_from=answers", size=3.0)
    batch, played = policy.tasks[0].batch(0), policy.pay(right_on_even_rows)
    with torch.no_grad():
        loss = loss_of(policy.learner, policy.recipe, batch, step=0)
    (round_,) = played
    # Three different problems are answered once each, under the prompt of their rows.
    assert len(set(round_.problem_R.tolist())) == 3
    assert round_.prompt_RP.tolist() == [list(policy.layout.seed_prompt)] * 3
    failed = [int(problem) for problem in round_.problem_R if problem % 2]
    nats = []
    for row in failed:
        logp = policy.model(batch.tokens_BT[[row]])[0].detach().log_softmax(-1)
        scored = [place for place, token in enumerate(batch.targets_BT[row].tolist()) if token >= 0]
        nats += [-logp[place, batch.targets_BT[row, place]] for place in scored]
    assert len(nats) == len(failed) * policy.layout.answer_len > 0
    assert float(loss) == pytest.approx(float(sum(nats) / len(nats)), rel=1e-5)
    terms = policy.objective.terms()
    assert (terms["shown"], terms["fast_rollouts"], terms["rounds"], terms["rollouts"]) == (len(failed), 3, 1, 0)


def test_answers_are_shown_once_in_each_round_and_imitated_until_the_next():
    policy = small_policy(*QUIZ, "objective.learn_from=answers", "optimizer.lr=1e-2")
    policy.pay(no_reward)
    reports = policy.steps(5)
    assert [report.terms["shown"] for report in reports] == [3, 3, 3, 6, 6]
    assert reports[2].loss < reports[0].loss


def test_without_a_failure_nothing_is_learned():
    policy = small_policy(*QUIZ, "objective.learn_from=answers")
    policy.pay(lambda rollouts: rollouts.problem_R >= 0)
    assert [report.loss for report in policy.steps(2)] == [0, 0]


def test_rewards_and_shown_answers_add_up():
    policy = small_policy(*QUIZ, "objective.learn_from=reward_and_answers", size=3.0)
    batch, objective = policy.tasks[0].batch(0), policy.objective
    played = policy.pay(lambda rollouts: rollouts.answer_RA[:, 0] % 2 == 0)
    both = loss_of(policy.learner, policy.recipe, batch, step=0).detach()
    # The quiz comes first, then the rollouts of the slow step.
    asked, rollouts = played
    assert (len(asked.reward_R), len(rollouts.reward_R)) == (3, 32)
    rewards = objective._slow_loss(policy.learner, batch, rollouts).detach()
    answers = objective._imitation.loss(policy.model, Costs()).detach()
    assert bool(rewards)
    assert bool(answers)
    torch.testing.assert_close(both, rewards + answers)


def test_a_run_that_stopped_between_two_rounds_resumes_bit_exactly(tmp_path, monkeypatch):
    typed = [*RULES, *QUIZ, "objective.learn_from=reward_and_answers"]
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    assert run_here(typed, tmp_path / "whole").code == 0
    resumed = interrupted_run(typed, tmp_path / "cut", monkeypatch, rows=2)
    assert (resumed / "results.json").read_bytes() == (only_run(tmp_path / "whole") / "results.json").read_bytes()
