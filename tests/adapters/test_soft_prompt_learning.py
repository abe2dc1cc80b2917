"""Soft prompts learn what pays, whole runs resume, and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import assert_refused
from harness import only_run, run_here
from interrupted import interrupted_run
from policies import RULES
from safetensors.torch import load_file
from small_policy import SOFT, is_even, soft_policy
from toy_prompts import LAYOUT

from ttt.config.build import build
from ttt.learner import slow_hash
from ttt.objectives.reward import Reward
from ttt.stream import Batch

TYPED = [*RULES, *SOFT]


class Sevens:
    """A task whose right answer, the last token of a row, is always a 7."""

    name = "sevens"

    def __init__(self, task) -> None:
        self._task = task

    def batch(self, step: int) -> Batch:
        return ending_in_seven(self._task.batch(step))

    def evaluation(self) -> Batch:
        return ending_in_seven(self._task.evaluation())


def ending_in_seven(batch: Batch) -> Batch:
    targets_BT = batch.targets_BT.clone()
    targets_BT[:, -1] = 7
    return batch._replace(targets_BT=targets_BT)


def test_prompts_alone_learn_what_pays():
    """With frozen weights, success rises in mode fast and nothing changes in mode slow.

    By gradient descent on the right answer itself, a success of 0.39 can be reached here.
    """
    fast = ("objective.cycle.slow_steps=1", "adapter.problems=4", "adapter.step=0.05", "adapter.steps=5")
    policy = soft_policy("strategy=frozen", *fast, size=16.0)
    task, slow = Sevens(policy.tasks[0]), slow_hash(policy.model)
    # Answers of one token make success rise within seconds.
    layout = replace(policy.layout, answer_len=1, verify=lambda batch, answer_BA: answer_BA[:, 0] == 7)
    policy.objective.layout = policy.adapter._layout = layout
    before = policy.scores(task)
    policy.steps(30, task=task)
    after = policy.scores(task)
    assert slow_hash(policy.model) == slow
    assert before["fast"]["success"] == before["slow"]["success"] == after["slow"]["success"]
    assert before["fast"]["success"][0] < 0.05
    assert after["fast"]["success"][0] > 0.1
    # The prompt that earned most in the last round comes first.
    assert policy.learner.fast["record"][0].diff().max() <= 0


def test_a_run_that_stopped_inside_a_cycle_resumes_bit_exactly(tmp_path: Path, monkeypatch):
    """With 4 steps a task and 3 a cycle, the first task ends inside a cycle.

    The checkpoint holds Adam's moments, the archive and the random numbers.
    """
    # A reward that half of the answers earn; the real one would leave all prompts unmoved.
    play = Reward.play

    def rewarded(*arguments):
        rollouts = play(*arguments)
        return replace(rollouts, reward_R=is_even(rollouts).float())

    monkeypatch.setattr(Reward, "play", rewarded)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    outcome = run_here(TYPED, tmp_path / "whole")
    assert outcome.code == 0, outcome.err
    whole, resumed = only_run(tmp_path / "whole"), interrupted_run(TYPED, tmp_path / "parts", monkeypatch, rows=2)
    for file in ("results.json", "checkpoints/task-0002/fast.safetensors", "checkpoints/task-0002/slow.safetensors"):
        assert (whole / file).read_bytes() == (resumed / file).read_bytes(), file
    ours, theirs = (load_file(run / "checkpoints/task-0002/objective.safetensors") for run in (whole, resumed))
    assert ours.keys() == theirs.keys()
    # Seconds are counted too, and no two runs take the same.
    timed = {name for name in ours if name.endswith("_seconds")}
    assert timed < ours.keys()
    for name in ours.keys() - timed:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"emit": 0}, "adapter.emit=0: "),
        ({"step": 0.0}, "adapter.step=0.0: "),
        ({"step": -0.1}, "adapter.step=-0.1: "),
        ({"step": float("nan")}, "adapter.step=nan: "),
        ({"steps": 0}, "adapter.steps=0: "),
        ({"problems": 0}, "adapter.problems=0: "),
        ({"spread": 0.0}, "adapter.spread=0.0: "),
        ({"reset": "sequence"}, "adapter.reset=sequence: "),
        ({"reset": "tasks"}, "adapter.reset=tasks: "),
        ({"layout": None}, "adapter=soft_prompt: "),
    ],
)
def test_wrong_arguments(options, start):
    config = {
        "_target_": "ttt.adapters.soft_prompt.SoftPrompt",
        "name": "soft_prompt", "reset": "never", "emit": 4, "step": 0.1, "steps": 2, "problems": 2, "spread": 0.1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^adapter") as error:
        build(config, group="adapter", given={"layout": LAYOUT} | options, trusted=[])
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("objective.rollouts=2", ("adapter.emit=4: ", "objective.rollouts=2")),
        ("adapter.step=-1", ("adapter.step=-1: ",)),
        ("adapter.reset=task", ("adapter.reset=task: ",)),
    ],
)
def test_a_soft_prompt_that_does_not_fit_its_run(override, parts):
    with pytest.raises(ValueError, match=r"^adapter") as error:
        soft_policy(override)
    message = str(error.value)
    assert message.startswith(parts[0])
    assert all(part in message for part in parts)
    assert "\n" not in message


def test_a_model_that_reads_no_tokens_is_refused(tmp_path: Path):
    images = ("model=mlp", "source=digits", "task=permuted-sequence", "task.permute=positions", "base=none")
    outcome = run_here([*images, "logger=none", "adapter=soft_prompt"], tmp_path)
    assert_refused(outcome, "adapter=soft_prompt: ", "model=mlp")
    assert not (tmp_path / "outputs").exists()


def test_a_model_without_a_table_of_embeddings_is_refused():
    class Tableless(torch.nn.Module):
        def get_input_embeddings(self):
            return torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"^adapter=soft_prompt: .*Tableless"):
        soft_policy().adapter.attach(Tableless())
