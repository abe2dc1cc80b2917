"""Numbers that are not finite never become a row or a checkpoint; a bad step can be skipped."""

from __future__ import annotations

import json

import pytest
import torch
from harness import FAST, TINY, only_run, run_here
from strategy_jobs import NANO, make, weights

from ttt.storage import checkpoint
from ttt.training import train as training
from ttt.training.finite import NonFiniteError
from ttt.training.train import train

HUGE = ("optimizer.lr=1e38", "task.num_tasks=1", "task.steps_per_task=1", "trainer.report_every=1")


def test_weights_that_the_last_step_spoilt_end_the_run_before_they_are_measured_or_saved(tmp_path):
    outcome = run_here([*TINY, *FAST, *HUGE], tmp_path)
    assert outcome.code == 76
    folder = only_run(tmp_path)
    assert json.loads((folder / "status.json").read_text())["status"] == "failed"
    (last,) = checkpoint.in_order(folder / "checkpoints")
    assert all(bool(x.isfinite().all()) for x in checkpoint.load(last).tensors["slow"].values())
    assert not (folder / "lock").exists()


def test_a_fast_state_that_drowns_the_slow_weights_is_noted_once(tmp_path):
    job = (*TINY, *FAST, "adapter.step=1e20", "adapter.reset=never", "adapter.decay=1")
    assert run_here(job, tmp_path).out.count("times as large as the slow weights") == 1


def spoil(monkeypatch, steps):
    """Let the loss of some batches be infinite."""
    loss_of = training.loss_of

    def spoilt(*args, step, **rest):
        loss = loss_of(*args, step=step, **rest)
        return loss * torch.inf if step in steps else loss

    monkeypatch.setattr(training, "loss_of", spoilt)


def learn(assembly, engine, *, skips):
    phase = assembly.stream.phases[0]
    reports = train(engine, phase, recipe=assembly.recipe, steps=3, report_every=3, skips=skips)
    return next(iter(reports))


def test_a_skipped_step_moves_nothing(monkeypatch):
    """As if the stream had gone without it: weights, moments and fast state are those of naive."""
    assembly, engine = make(*NANO, "optimizer=adamw")
    spoil(monkeypatch, {2})
    progress = learn(assembly, engine, skips=True)
    plain, other = make(*NANO, "optimizer=adamw")
    phase = plain.stream.phases[0]
    (two,) = train(other, phase, recipe=plain.recipe, steps=2, report_every=2)
    assert progress.watched["skipped"] == pytest.approx(1 / 3)
    assert progress.loss == two.loss
    for name, weight in weights(other).items():
        assert torch.equal(weights(engine)[name], weight)
    for key, x in other.learner.fast.items():
        assert torch.equal(engine.learner.fast[key], x)


@pytest.mark.parametrize("skips", [False, True])
def test_what_cannot_be_skipped_stops_the_run(monkeypatch, skips):
    assembly, engine = make(*NANO)
    spoil(monkeypatch, {0, 1, 2} if skips else {1})
    with pytest.raises(NonFiniteError):
        learn(assembly, engine, skips=skips)


def test_skipping_changes_nothing_where_all_is_finite():
    left = []
    for skips in (False, True):
        assembly, engine = make(*NANO, "optimizer.slow_every=2")
        learn(assembly, engine, skips=skips)
        left.append(weights(engine))
    assert all(torch.equal(left[0][name], left[1][name]) for name in left[0])
