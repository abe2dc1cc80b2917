"""joint, cumulative, independent, frozen: references that read other rows, forget or freeze."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from harness import only_run, run_here
from learning import learn_task
from strategy_jobs import MLP, NANO, SPLIT, TOKENS, make

from ttt.learner import slow_hash
from ttt.stream import Batch
from ttt.training.train import train

ONE_PASS = (*MLP, "task.steps_per_task=one-pass")


def rows_of(batches: list[Batch]) -> Counter[bytes]:
    return Counter(row.numpy().tobytes() for batch in batches for row in batch.tokens_BT)


@pytest.fixture(scope="module")
def plain_phases():
    return make(*ONE_PASS)[0].stream.phases


@pytest.fixture(scope="module")
def phases_of(plain_phases):
    """Return the phase that each row of a batch comes from."""
    origins = {
        row.numpy().tobytes(): i for i, p in enumerate(plain_phases) for s in range(p.steps) for row in p.batch(s)[0]
    }
    return lambda batch: [origins[row.numpy().tobytes()] for row in batch.tokens_BT]


def test_joint_reads_what_naive_reads_as_often_and_evenly(plain_phases, phases_of):
    joint = make(*ONE_PASS, "strategy=joint")[0].stream.phases
    assert [(p.name, p.task, p.steps) for p in joint] == [(p.name, p.task, p.steps) for p in plain_phases]
    assert not any(p.announced for p in joint)
    both = [[p.batch(s) for p in phases for s in range(p.steps)] for phases in (plain_phases, joint)]
    assert rows_of(both[0]) == rows_of(both[1])
    for batch in both[1][::40]:
        # 8 rows, 3 tasks.
        assert sorted(Counter(phases_of(batch)).values()) == [2, 3, 3]


def test_cumulative_reads_evenly_from_all_phases_so_far_and_goes_on_in_each(phases_of):
    phases = make(*ONE_PASS, "strategy=cumulative")[0].stream.phases
    assert all(p.announced for p in phases)
    seen: Counter[bytes] = Counter()
    for i, phase in enumerate(phases):
        batches = [phase.batch(step) for step in range(12)]
        count = Counter(origin for batch in batches for origin in phases_of(batch))
        assert set(count) == set(range(i + 1))
        assert max(count.values()) - min(count.values()) <= 1
        seen += rows_of(batches)
    # The first phase reads all of its rows, so later phases read its first rows again, once.
    assert max(seen.values()) <= 2


@pytest.mark.parametrize("name", ["joint", "cumulative"])
@pytest.mark.parametrize("job", [MLP, TOKENS, (*SPLIT, "task.scenario=task")])
def test_a_mixed_batch_is_a_function_of_its_step(name, job):
    first, second = (make(*job, f"strategy={name}")[0].stream.phases for _ in range(2))
    batches = {(i, s): phase.batch(s) for i, phase in enumerate(first) for s in range(3)}
    # In the opposite order: what was dealt before must not matter.
    for (i, s), batch in sorted(batches.items(), reverse=True):
        again = second[i].batch(s)
        assert all(x is y is None or torch.equal(x, y) for x, y in zip(batch, again, strict=True))
        assert len(batch.tokens_BT) == (2 if job is TOKENS else 8)
    assert job[-1] != "task.scenario=task" or batches[2, 0].outputs_BV.unique(dim=0).shape[0] > 1


def test_independent_learns_each_task_as_if_it_were_the_first():
    for job in (MLP, (*NANO, "optimizer=adamw")):
        assembly, engine = make(*job, "strategy=independent")
        for index in range(3):
            reports = learn_task(engine, assembly, index)
        alone, fresh = make(*job)
        phase = alone.stream.phases[2]
        losses = [p.loss for p in train(fresh, phase, recipe=assembly.recipe, steps=phase.steps, report_every=1)]
        assert losses == [p.loss for p in reports]
        assert slow_hash(fresh.learner.model) == slow_hash(engine.learner.model)


def test_a_fresh_network_has_the_schedule_of_the_first_task(tmp_path):
    job = [*MLP, "strategy=independent", "optimizer.schedule=linear", "optimizer.over=stream"]
    assert run_here(job, tmp_path).code == 0
    lines = (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
    reports = [event for event in map(json.loads, lines) if event["event"] == "trained"]
    rates = {task: [event["lr"] for event in reports if event["task"] == task] for task in (1, 3)}
    assert rates[1] == rates[3]
    assert rates[1][-1] < rates[1][0]


def test_frozen_learns_fast_and_not_slow():
    assembly, engine = make(*NANO, "strategy=frozen")
    before = slow_hash(engine.learner.model)
    learn_task(engine, assembly, 0)
    assert slow_hash(engine.learner.model) == before
    assert any(bool(x.any()) for x in engine.learner.fast.values())
