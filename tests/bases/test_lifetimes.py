"""How long fast weights live while a base is trained, and when its training ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from assembling import assembled
from commands import assert_refused
from harness import FAST, SMALL, TINY, only_run, run_here
from torch import nn

from ttt.bases.until import AGE, RecentMean
from ttt.learner import cross_entropy
from ttt.optimizers.adamw import AdamW
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_json

STEPS, LIFETIME = 7, 3


def weights_of(assembly, watch=lambda event: None):
    return assembly.base_weights(assembly.settings.fabric(), watch)


def assembly_in(folder, *more: str):
    return assembled(*SMALL, *FAST, "base.warmup=1", f"base.steps={STEPS}", f"cache_dir={folder}", *more)


@pytest.mark.parametrize("carry", ["mean", "lane"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_base_that_carries_states_against_a_plain_loop(tmp_path, carry, share):
    more = (f"adapter.carry={carry}", f"adapter.write_dropout={share}")
    assembly = assembly_in(tmp_path, "base.reset=task", f"base.lifetime={LIFETIME}", *more)
    weights = weights_of(assembly)

    learner, task = assembled(*SMALL, *FAST, *more).learner, assembly.stream.base
    factory = AdamW(name="adamw", lr=0.003, beta1=0.9, beta2=0.95, weight_decay=0.01, clip=1.0)
    optimizer, dropped = factory.build(learner.model), 0
    for step in range(STEPS):
        if step % LIFETIME == 0:
            fast = learner.adapter.initial()
        batch = task.batch(step)
        drops = share and np.random.default_rng([102, 0, *task.name.encode(), step]).random() < share
        dropped += bool(drops)
        logits_BTV, after = learner(batch, learner.adapter.initial() if drops else fast, write=not drops)
        fast = fast if drops else learner.adapter.carry(after)
        cross_entropy(logits_BTV, batch, reduction="mean").backward()
        for parameter in learner.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for group in optimizer.param_groups:
            group["lr"] = 0.003 * (1 - step / STEPS)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert not share or 0 < dropped < STEPS
    for name, parameter in learner.model.named_parameters():
        torch.testing.assert_close(weights[name], parameter.detach(), rtol=1e-4, atol=1e-5)


def test_lifetime_dropout_and_end_are_part_of_what_a_base_is(tmp_path):
    def bases(*more: str) -> set[str]:
        weights_of(assembly_in(tmp_path, "base.steps=2", *more))
        return {path.name for path in (tmp_path / "base").glob("*/")}

    first = bases()
    # In the base's training nothing is carried, and where else batches are dropped is no matter.
    assert bases("adapter.carry=lane") == bases("adapter.write_dropout_in=both") == first
    others = [("base.reset=task",), ("base.reset=task", "base.lifetime=2"), ("adapter.write_dropout=0.5",)]
    others += [("base.reset=task", "adapter.carry=lane"), ("base.until=9",)]
    for count, other in enumerate(others, start=2):
        assert len(bases(*other)) == count
    assert len(bases("base.reset=task", "adapter.reset=never")) == len(others) + 1


def test_a_base_without_fast_weights_has_no_lifetime(tmp_path):
    typed = [*SMALL, "adapter=none", "base.warmup=1", "base.steps=3", f"cache_dir={tmp_path}"]
    one, other = (weights_of(assembled(*typed, f"base.reset={reset}")) for reset in ("sequence", "task"))
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_the_mean_of_recent_weights():
    model = nn.Linear(3, 2)
    recent, seen = RecentMean(model), []
    for look in range(1, 8):
        with torch.no_grad():
            model.weight.normal_(generator=torch.Generator().manual_seed(look))
        recent.look()
        seen.append(model.weight.detach().clone())
    weights = torch.tensor([float(i**AGE) for i in range(1, 8)])
    wanted = (weights[:, None, None] * torch.stack(seen)).sum(0) / weights.sum()
    with recent.in_place():
        torch.testing.assert_close(model.weight.detach(), wanted)
    assert torch.equal(model.weight, seen[-1])
    recent.take()
    torch.testing.assert_close(model.weight.detach(), wanted)


@pytest.mark.parametrize("adapter", ["mlp_fast", "none"])
def test_a_base_that_is_good_enough_ends_early_and_is_what_was_measured(tmp_path, adapter):
    limit, events = 4.8, []
    typed = [*SMALL, f"adapter={adapter}", *(FAST[1:] if adapter != "none" else ()), "base.warmup=1", "base.steps=400"]
    assembly = assembled(*typed, f"base.until={limit}", f"cache_dir={tmp_path}")
    assembly.load(weights_of(assembly, events.append))
    record = assembly.base.record
    assert record["steps"] == events[-1].task_step == events[-1].task_steps < 400
    assert events[-1].lr == pytest.approx(0.003)
    batch, learner = assembly.stream.base.evaluation(), assembly.learner.eval()
    with torch.no_grad():
        logits_BTV, _ = learner(batch, learner.adapter.initial())
    bits = float(cross_entropy(logits_BTV, batch, reduction="mean")) / np.log(2)
    assert bits == pytest.approx(record["held_out_loss"], rel=1e-5)
    assert bits <= limit


def test_a_base_that_never_gets_there_ends_the_run_each_time_at_once(tmp_path):
    typed = [*TINY, *FAST, "base.until=0.5", f"cache_dir={tmp_path / 'cache'}"]
    outcomes = [run_here(typed, tmp_path) for _ in range(2)]
    for outcome in outcomes:
        assert_refused(outcome, "base.until=0.5", "base.steps=3")
    assert ["base: " in outcome.out for outcome in outcomes] == [True, False]
    assert not list(tmp_path.glob("outputs/*/*/*"))


def test_a_run_records_what_its_base_took(tmp_path):
    assert run_here([*TINY, *FAST], tmp_path).code == 0
    record = read_json(RunFolder(only_run(tmp_path)).environment)["base"]
    assert record["steps"] == 3
    assert record["tokens"] == 3 * 2 * 16
    assert "held_out_loss" not in record
