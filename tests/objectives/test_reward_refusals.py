"""Refusals of `objective=reward` name the key and the value that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import assert_refused
from harness import run_here
from policies import ALONE, RULES
from small_policy import assembled

# The adapters as they are shipped, with four prompts in use.
POOL, SOFT = ("adapter=prompt_pool",), ("adapter=soft_prompt",)
ARGUMENTS = (
    "objective.rollouts=1",
    "objective.temperature=0",
    "objective.temperature=nan",
    "objective.clip=0",
    "objective.entropy=inf",
    "objective.entropy=-1",
    "objective.kl=-0.5",
    "objective.baseline=promt",
    "objective.learn_from=prompts",
    "objective.quiz=0",
    "objective.drift=forward",
    "objective.cycle=null",
    "objective.cycle=5",
    "objective.cycle.slow_steps=0",
    "objective.cycle.fast_budget=-1",
    "objective.cycle.rounds=-1",
    "objective.cycle.rounds=0.5",
    "+objective.cycle.fastbudget=3",
)
COMBINATIONS = (
    (("adapter=mlp_fast", "adapter.chunk=4"), "adapter=mlp_fast"),
    ((*POOL, "objective.rollouts=2"), "adapter.emit=4"),
    ((*POOL, "objective=next_token"), "adapter=prompt_pool"),
    ((*SOFT, "objective=next_token"), "adapter=soft_prompt"),
    ((*POOL, "adapter.reset=task"), "adapter.reset=task"),
    ((*ALONE, "optimizer.reset=task"), "optimizer.reset=task"),
    ((*ALONE, "objective.learn_from=prompt"), "objective.learn_from=prompt"),
    ((*POOL, "objective.learn_from=prompt", "objective.kl=0.1"), "objective.learn_from=prompt"),
    ((*POOL, "objective.baseline=prompt", "objective.rollouts=7"), "objective.baseline=prompt"),
    ((*ALONE, "objective.learn_from=answers", "objective.entropy=0.1"), "objective.learn_from=answers"),
    ((*POOL, "objective.learn_from=answers"), "objective.learn_from=answers"),
    ((*SOFT, "objective.learn_from=reward_and_answers"), "objective.learn_from=reward_and_answers"),
    ((*POOL, "task.prompt=rule"), "task.prompt=rule"),
    ((*ALONE, "objective.reuse=true"), "objective.reuse=true"),
    ((*SOFT, "objective.reuse=true"), "objective.reuse=true"),
    ((*SOFT, "objective.cycle.fast_budget=3"), "objective.cycle.fast_budget=3"),
    ((*POOL, "objective.cycle.fast_budget=9"), "objective.cycle.fast_budget=9"),
    ((*ALONE, "strategy=ewc"), "strategy=ewc"),
)


def refusal(*overrides: str) -> str:
    with pytest.raises(ValueError, match="=") as error:
        assembled(*overrides)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("override", ARGUMENTS)
def test_wrong_arguments(override):
    assert refusal(*ALONE, override).startswith(f"{override.removeprefix('+')}: ")


def test_what_would_be_right_is_named():
    assert "did you mean prompt? allowed: problem, prompt" in refusal(*ALONE, "objective.baseline=promt")
    assert "did you mean fast_budget?" in refusal(*ALONE, "+objective.cycle.fastbudget=3")
    # The smallest budgets of a round: one group; two minibatches and two scores.
    assert "8" in refusal(*SOFT, "objective.cycle.fast_budget=3").partition(": ")[2]
    assert "10" in refusal(*POOL, "objective.cycle.fast_budget=9").partition(": ")[2]
    assert "objective.rollouts=8" in refusal(*POOL, "objective.baseline=prompt", "objective.rollouts=7")


@pytest.mark.parametrize(("overrides", "key"), COMBINATIONS, ids=lambda x: x if isinstance(x, str) else " ".join(x))
def test_what_does_not_go_together(overrides, key):
    assert refusal(*overrides).startswith(f"{key}: ")


def test_the_command_refuses_in_one_line_before_it_writes(tmp_path: Path):
    assert_refused(run_here([*RULES, *ALONE, "objective.rollouts=1"], tmp_path), "objective.rollouts=1: ")
    words = ["source=recall", "objective=reward", "adapter=none", "logger=none"]
    assert_refused(run_here(words, tmp_path), "objective=reward: ", "task=reward-sequence")
    assert not (tmp_path / "outputs").exists()
