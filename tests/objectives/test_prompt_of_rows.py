"""Without a search each problem keeps the prompt of its row, which may name the hidden rule."""

from __future__ import annotations

import pytest
import torch
from policies import ALONE
from small_policy import assembled, small_policy

RULE = (*ALONE, "task.prompt=rule", "task.num_tasks=3")


@pytest.mark.parametrize("ops", [1, 2])
def test_rows_name_the_instructions_of_their_task_and_nothing_else_changes(ops):
    plain, described = (assembled(*words, f"task.ops={ops}").stream for words in ((*RULE, "task.prompt=seed"), RULE))
    layout = described.layout
    for old, new in zip(plain.tasks, described.tasks, strict=True):
        for before, after in ((old.batch(3), new.batch(3)), (old.evaluation(), new.evaluation())):
            words = [layout.text(prompt) for prompt in layout.prompts(after).tolist()]
            # The name of a task lists its instructions and ends with the hidden part.
            names = new.name.split(", ")[:ops]
            assert set(words) == {" ".join([*names, *["null"] * (2 - ops)])}
            assert torch.equal(layout.questions(before), layout.questions(after))
            assert torch.equal(before.targets_BT, after.targets_BT)
        # The same problems: comparisons pair such runs.
        assert old.fingerprint == new.fingerprint
    assert plain.base.fingerprint == described.base.fingerprint


def test_rollouts_stand_behind_the_prompts_of_their_rows():
    policy = small_policy(*RULE)
    batch, other = policy.tasks[0].batch(0), policy.tasks[1].batch(0)
    mixed = batch._replace(tokens_BT=torch.cat([batch.tokens_BT[:2], other.tokens_BT[2:]]))
    rollouts = policy.objective._rollouts(policy.learner, mixed, None, None)
    heads = mixed.tokens_BT[:, :2]
    assert len(heads.unique(dim=0)) == 2
    assert torch.equal(rollouts.prompt_RP, heads[rollouts.problem_R])
