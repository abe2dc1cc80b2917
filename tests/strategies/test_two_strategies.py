"""Two strategies at once: each has its part, in a sensible order, and its time is counted."""

from __future__ import annotations

import json
import time

import pytest
from harness import only_run, run_here
from learning import learn_task
from strategy_jobs import MLP, NANO, SPLIT, STRATEGIES, learned, make

from ttt.learner import slow_hash
from ttt.storage import checkpoint
from ttt.strategies.naive import Naive


def as_second(name: str) -> list[str]:
    first, *values = STRATEGIES[name]
    return [first.replace("strategy=", "strategy@also="), *(o.replace("strategy.", "also.") for o in values)]


@pytest.mark.parametrize(
    ("first", "second"),
    [("ewc", "shrink_perturb"), ("si", "l2_init"), ("lora_task", "l2_init"), ("continual_backprop", "l2_init")],
)
def test_each_of_two_has_its_part(first, second):
    """Neither alone, nor none of them, comes to the same weights."""
    jobs = [[*STRATEGIES[first], *as_second(second)], STRATEGIES[first], STRATEGIES[second], ["strategy=naive"]]
    assert len({slow_hash(learned(*MLP, *job, tasks=2)[1].learner.model) for job in jobs}) == 4


def test_a_user_types_two_at_once(tmp_path):
    outcome = run_here([*SPLIT, "strategy=replay", "strategy@also=lwf", "also.coefficient=0.5"], tmp_path)
    assert outcome.code == 0, outcome.err
    folder = only_run(tmp_path)
    assert "replay+lwf" in str(folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    penalties = [line["terms"]["lwf.penalty"] for line in lines if line["event"] == "trained" and line["terms"]]
    # Two tasks of 6 steps have a teacher; the first step of each starts from the teacher itself.
    assert len(penalties) == 2 * 6
    assert sum(penalty > 0 for penalty in penalties) >= 2 * 5
    tensors = checkpoint.load(sorted(folder.glob("checkpoints/task-*"))[-1]).tensors
    assert {key[:2] for key in tensors["strategy"]} == {"0.", "1."}


def test_what_replaces_weights_begins_and_ends_before_what_keeps_them():
    assembly, engine = make(*MLP, "strategy=independent", "strategy@also=lora_task")
    assembly.recipe.strategy.begin_task(engine, 0)
    # Zeros on both sides of an update would learn nothing, ever.
    updates = [x for name, x in engine.learner.model.named_parameters() if "a_RI" in name]
    assert updates
    assert all(bool(x.any()) for x in updates)
    assert assembly.recipe.strategy.is_fresh
    for first, second in (("l2", "consolidate"), ("consolidate", "l2")):
        pair, engine = make(*NANO, f"strategy={first}", f"strategy@also={second}")
        assert learn_task(engine, pair, 0)
        # l2 holds the weights into which the state was merged: nothing pulls yet.
        assert pair.recipe.strategy.terms()["l2.penalty"] == 0 < pair.recipe.strategy.terms()["consolidate.merged"]


def test_what_a_strategy_takes_before_and_after_tasks_is_a_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(Naive, "begin_task", lambda self, engine, index: time.sleep(0.02))
    monkeypatch.setattr(Naive, "end_task", lambda self, engine, index: time.sleep(0.01))
    assert run_here(MLP, tmp_path).code == 0
    status = json.loads((only_run(tmp_path) / "status.json").read_text())
    assert status["strategy_seconds_between_tasks"] >= 3 * 0.03
