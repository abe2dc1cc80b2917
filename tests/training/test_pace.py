"""The pace of the slow weights: how many batches share a step, schedules, and moments at a task."""

from __future__ import annotations

import pytest
import torch
from assembling import assembled
from learning import begin_task, engine_of, losses_of
from vectors import VECTORS

from ttt.training.pace import Pace
from ttt.training.train import loss_of, train


def test_slow_weights_step_once_for_several_batches_by_their_mean_gradient():
    """Six batches in groups of four: the last group has two."""
    ours, plain = assembled(*VECTORS, "optimizer.slow_every=4"), assembled(*VECTORS)
    start = [p.detach().clone() for p in plain.learner.model.parameters()]
    losses_of(engine_of(ours), ours, 0, steps=6)
    model, lr, phase = plain.learner.model, ours.config["optimizer"]["lr"], plain.stream.phases[0]
    for group in (range(4), range(4, 6)):
        losses = [loss_of(plain.learner, plain.recipe, phase.batch(step), step=step) for step in group]
        gradients = torch.autograd.grad(torch.stack(losses).mean(), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * gradient
    for ours_p, plain_p, before in zip(ours.learner.model.parameters(), model.parameters(), start, strict=True):
        torch.testing.assert_close(ours_p, plain_p)
        assert not torch.equal(ours_p, before)


def test_schedules_by_hand():
    assert [Pace(schedule="linear").factor(step, of=4) for step in range(4)] == [1, 0.75, 0.5, 0.25]
    assert [Pace(schedule="cosine").factor(step, of=2) for step in range(2)] == pytest.approx([1, 0.5])
    assert [Pace(warmup=2, schedule="linear").factor(step, of=4) for step in range(4)] == [0.5, 1, 1, 0.5]
    over_stream = Pace(schedule="linear", over="stream").rate(before=10, steps=10, of=20)
    assert [over_stream(step) for step in (0, 5)] == [0.5, 0.25]
    assert Pace().rate(before=0, steps=1, of=1) is None


def test_a_schedule_is_a_share_of_each_groups_own_rate():
    assembly = assembled(*VECTORS, "optimizer=adamw", "optimizer.schedule=linear", "optimizer.lr=0.01")
    engine, phase, recipe = engine_of(assembly), assembly.stream.phases[0], assembly.recipe
    rate = recipe.pace.rate(before=0, steps=phase.steps, of=assembly.stream.steps)
    reports = train(engine, phase, recipe=recipe, steps=phase.steps, report_every=1, rate=rate)
    expected = [0.01 * (1 - step / phase.steps) for step in range(phase.steps)]
    assert [report.lr for report in reports] == pytest.approx(expected)


def test_moments_are_forgotten_at_a_task_where_typed():
    weights = []
    for reset in ("never", "task"):
        assembly = assembled(*VECTORS, "optimizer=adam", f"optimizer.reset={reset}")
        engine = engine_of(assembly)
        losses_of(engine, assembly, 0, steps=3)
        begin_task(engine, assembly, 1)
        assert bool(engine.optimizer.state) == (reset == "never")
        losses_of(engine, assembly, 1, steps=1)
        weights.append(torch.cat([p.detach().flatten() for p in assembly.learner.model.parameters()]))
    assert not torch.equal(*weights)
