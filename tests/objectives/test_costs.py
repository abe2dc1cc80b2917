"""What search and slow steps spend, counted apart and compared with counts by hand."""

from __future__ import annotations

import json
import time

from harness import only_run, run_here
from policies import ALONE, POOL, RULES
from small_policy import SOFT, no_reward, small_policy

from ttt.compare.runs import read_run
from ttt.objectives.costs import Costs

# Rows of [2 words, 5 tokens of question, 4 of answer], of which a model reads all but the last.
CONTEXT, ROW, ANSWER = 7, 10, 4


def test_slow_steps_read_to_sample_and_again_for_a_loss():
    policy = small_policy(*ALONE, "objective.kl=0.1")
    terms = policy.steps(1)[0].terms
    # 32 rollouts are sampled, then read for the loss and by the base.
    assert terms["slow_tokens_generated"] == 32 * ANSWER
    assert terms["slow_tokens_read"] == 32 * (CONTEXT + 2 * ROW)
    assert terms["fast_tokens_read"] == terms["fast_seconds"] == terms["proposals"] == terms["shown"] == 0
    assert terms["slow_seconds"] > 0
    # Without a mixed group and a regulariser nothing is read again.
    policy = small_policy(*ALONE)
    policy.pay(no_reward)
    assert policy.steps(1)[0].terms["slow_tokens_read"] == 32 * CONTEXT


def test_a_search_counts_what_it_plays_and_what_its_proposer_is_shown():
    policy = small_policy(*POOL, "adapter.proposer=informed")
    policy.pay(no_reward)
    terms = policy.steps(1)[0].terms
    assert terms["fast_tokens_read"] == terms["fast_rollouts"] * CONTEXT
    assert terms["fast_tokens_generated"] == terms["fast_rollouts"] * ANSWER
    # Three proposals from batches of four, all of which failed.
    assert (terms["proposals"], terms["shown"]) == (3, 12)
    blind = small_policy(*POOL, "adapter.proposer=mutate")
    blind.pay(no_reward)
    terms = blind.steps(1)[0].terms
    assert (terms["proposals"], terms["shown"]) == (3, 0)


def test_soft_prompts_read_their_rollouts_for_a_gradient():
    terms = small_policy(*SOFT).steps(1)[0].terms
    assert terms["fast_tokens_read"] == terms["fast_rollouts"] * (CONTEXT + ROW)
    assert terms["proposals"] == 0


def test_the_clocks_run_apart_and_stand_still_between_steps():
    costs = Costs()
    costs.begin_step()
    time.sleep(0.01)
    costs.pause()
    with costs.searching():
        time.sleep(0.03)
        costs.read(5)
    costs.pause()
    assert 0.01 <= costs["slow_seconds"] < costs["fast_seconds"]
    assert costs["fast_tokens_read"] == 5
    again = Costs()
    again.restore(costs.state())
    assert again.sums() == costs.sums()


def test_costs_stand_in_the_journal_and_in_comparisons(tmp_path):
    assert run_here([*RULES, *POOL], tmp_path).code == 0
    folder = only_run(tmp_path)
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    reports = [event["terms"] for event in events if event["event"] == "trained"]
    run = read_run(folder)
    for name in ("rollouts", "fast_rollouts", "fast_tokens_read", "slow_tokens_generated", "proposals", "fast_seconds"):
        assert run.metric(f"cost/run/{name}") == reports[-1][name] >= reports[0][name] > 0
