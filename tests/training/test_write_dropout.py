"""Batches that are read without writes, against a loop that knows none of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from assembling import assembled, refusal_of
from harness import SMALL, TINY, run_here
from interrupted import interrupted_run
from learning import engine_of, losses_of
from sharing import config_of, learn, together

from ttt.learner import cross_entropy, slow_hash
from ttt.training.write_dropout import WriteDropout

BOTH = ("base=none", "adapter.write_dropout=0.5", "adapter.write_dropout_in=both")
CHUNK = "adapter.chunk=4"
ADAPTERS = [
    ("mlp_fast", CHUNK),
    ("mlp_fast", CHUNK, "adapter.carry=lane", "adapter.rule=delta"),
    ("mlp_fast", CHUNK, "adapter.through_writes=false"),
    ("delta_fast",),
    *((adapter, CHUNK) for adapter in ("titans_fast", "ttt_linear", "lact_fast", "lora_fast", "sgd_fast")),
    ("prompt_fast", CHUNK),
]
STEPS = 6


def assembly_of(*more: str, adapter: str = "mlp_fast"):
    """Return a small run in which about half the batches are dropped, in the stream too."""
    return assembled(*SMALL, f"adapter={adapter}", "adapter.reset=task", *BOTH, *more)


def test_it_depends_on_seed_task_and_step_alone():
    dropout = WriteDropout(write_dropout=0.25, write_dropout_in="both", seed=3)
    drawn = [dropout.drops("a", step) for step in range(2000)]
    assert drawn == [np.random.default_rng([102, 3, ord("a"), step]).random() < 0.25 for step in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.03)
    assert drawn != [dropout.drops("b", step) for step in range(2000)]
    assert [WriteDropout(write_dropout=share, seed=3).drops("a", 1) for share in (0.0, 1.0)] == [False, True]
    assert dropout.in_stream() is dropout
    assert WriteDropout(write_dropout=0.25).in_stream().share == 0


@pytest.mark.parametrize("typed", ADAPTERS, ids="-".join)
def test_a_dropped_batch_reads_as_mode_slow_and_leaves_the_carried_state(typed):
    ours, theirs = (assembly_of(*typed[1:], adapter=typed[0]) for _ in range(2))
    engine, learner = engine_of(ours), engine_of(theirs).learner
    losses = losses_of(engine, ours, 0, steps=STEPS)

    optimizer, fast = learner.configure_optimizers(), learner.adapter.initial()
    phase, dropped = theirs.stream.phases[0], 0
    wanted = []
    for step in range(STEPS):
        batch = phase.batch(step)
        if theirs.recipe.dropout.drops(phase.name, step):
            dropped += 1
            logits_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
        else:
            logits_BTV, after = learner(batch, fast)
            fast = learner.adapter.carry(after)
        loss = cross_entropy(logits_BTV, batch, reduction="mean")
        loss.backward()
        for parameter in learner.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), learner.optimizer_factory.clip)
        optimizer.step()
        optimizer.zero_grad()
        wanted.append(float(loss.detach()))
    assert 0 < dropped < STEPS
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert engine.learner.fast.keys() == fast.keys()
    for name, x in fast.items():
        torch.testing.assert_close(engine.learner.fast[name], x, rtol=1e-3, atol=2e-5)


def test_without_writes_nothing_is_ever_carried():
    assembly = assembly_of(CHUNK, "adapter.write_dropout=1")
    engine = engine_of(assembly)
    losses_of(engine, assembly, 0, steps=3)
    assert not any(x.any() for x in engine.learner.fast.values())
    with pytest.raises(RuntimeError), engine.learner.without_writes():
        raise RuntimeError
    batch = assembly.stream.tasks[0].evaluation()
    assert any(x.any() for x in engine.learner(batch, engine.learner.adapter.initial())[1].values())


@pytest.mark.parametrize("strategy", ["replay", "der", "lwf", "consolidate"])
def test_strategies_learn_beside_it(strategy):
    """Each sees batches of both kinds, and ends elsewhere than without dropped ones."""
    ends = set()
    for share in (0.0, 0.5):
        assembly = assembly_of(CHUNK, f"adapter.write_dropout={share}", f"strategy={strategy}")
        engine = engine_of(assembly)
        assert all(np.isfinite(losses_of(engine, assembly, 0, steps=STEPS)))
        ends.add(slow_hash(engine.learner.model))
    assert len(ends) == 2


@pytest.mark.parametrize("carry", ["mean", "lane"])
def test_parts_of_a_batch_are_dropped_together(carry):
    ends = []
    for parts in (1, 2):
        assembly = assembly_of(CHUNK, f"adapter.carry={carry}", f"trainer.accumulate={parts}")
        engine = engine_of(assembly)
        losses = losses_of(engine, assembly, 0, steps=STEPS)
        ends.append((losses, engine.learner.fast["layers.1.mlp.memory"]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-5)
    torch.testing.assert_close(ends[0][1], ends[1][1], rtol=1e-4, atol=1e-6)


def test_two_devices_drop_the_same_batches(tmp_path):
    typed = (CHUNK, "adapter=mlp_fast", "adapter.reset=task", *BOTH)
    alone = learn(config_of(*typed), STEPS)
    configs = [config_of(*typed, f"trainer={kind}", "trainer.devices=2") for kind in ("ddp", "fsdp")]
    ranks = together([("learn", {"config": config, "steps": STEPS}) for config in configs], tmp_path / "rank")
    for rank in ranks:
        for work in rank:
            assert work["losses"] == pytest.approx(alone["losses"], rel=1e-4)
            for name, x in alone["slow"].items():
                torch.testing.assert_close(work["slow"].get(name, x), x, rtol=1e-4, atol=1e-5)


def test_a_run_that_was_stopped_goes_on_bit_by_bit(tmp_path, monkeypatch):
    typed = [*TINY, CHUNK, *BOTH[1:], "adapter.reset=never"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    assert run_here(typed, whole).code == 0
    folder = interrupted_run(typed, stopped, monkeypatch, rows=2)
    (results,) = whole.glob("outputs/*/*/*/results.json")
    assert (folder / "results.json").read_bytes() == results.read_bytes()


def test_values_and_adapters_without_writes_are_refused():
    assert "adapter.write_dropout=1.5: " in refusal_of(*SMALL, CHUNK, "adapter.write_dropout=1.5")
    assert "adapter.write_dropout_in=stream: " in refusal_of(*SMALL, CHUNK, "adapter.write_dropout_in=stream")
    for adapter in ("none", "soft_prompt"):
        assert "write_dropout" in refusal_of(*SMALL, f"adapter={adapter}", "adapter.write_dropout=0.5")
