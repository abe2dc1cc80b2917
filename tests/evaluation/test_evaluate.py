"""Evaluation: what each mode measures, in which unit, and that it only reads."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from assembling import assembled, without
from harness import FAST, SMALL
from learning import engine_of, losses_of

from ttt.evaluation.evaluate import evaluate
from ttt.learner import competing, slow_hash
from ttt.training.train import train

FRESH = (*SMALL, "base=none")


def scores_of(assembly, engine, *, tasks=None):
    batches = [task.evaluation() for task in assembly.stream.tasks[:tasks]]
    return evaluate(engine, batches, recipe=assembly.recipe)


def silenced(assembly):
    """Set all weights to zero, so that the model knows nothing; return the assembly."""
    for parameter in assembly.learner.model.parameters():
        torch.nn.init.zeros_(parameter)
    return assembly


@pytest.mark.parametrize("adapter", [["adapter=none"], [*FAST, "adapter.reset=never"]])
def test_it_only_reads(adapter):
    """Weights and carried state stay bit-equal, and so does training with it and without."""
    hashes = []
    for is_evaluated in (False, True):
        assembly = assembled(*FRESH, *adapter)
        engine = engine_of(assembly)
        learner = engine.learner
        for task in assembly.stream.tasks:
            for _ in train(engine, task, recipe=assembly.recipe, steps=3, report_every=1):
                if is_evaluated:
                    before, fast = slow_hash(learner.model), {name: x.clone() for name, x in learner.fast.items()}
                    scores_of(assembly, engine)
                    assert slow_hash(learner.model) == before
                    assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
        hashes.append(slow_hash(learner.model))
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_precision_holds_in_training_and_in_evaluation(precision, dtype):
    assembly = assembled(*without(FRESH, "trainer.precision"), *FAST, f"trainer.precision={precision}")
    engine, dtypes = engine_of(assembly), []
    gate = assembly.learner.model.layers[0].mlp.gate_proj
    gate.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    losses_of(engine, assembly, 0, steps=1)
    in_training = len(dtypes)
    scores_of(assembly, engine, tasks=1)
    assert set(dtypes) == {dtype}
    assert 0 < in_training < len(dtypes)
    # Fast weights are sums of many small writes: they stay in full precision.
    assert {x.dtype for x in assembly.learner.fast.values()} == {torch.float32}


def test_modes_measure_what_they_say():
    """slow ignores writes, carried starts from the stream's state; without one it equals fast."""
    assembly = assembled(*FRESH, *FAST, "adapter.step=1.0")
    engine = engine_of(assembly)
    fresh = scores_of(assembly, engine)
    assert fresh["carried"] == fresh["fast"] != fresh["slow"]
    engine.learner.fast = {name: torch.randn_like(x) for name, x in engine.learner.fast.items()}
    later = scores_of(assembly, engine)
    assert later["slow"] == fresh["slow"]
    assert later["fast"] == fresh["fast"]
    assert later["carried"] != fresh["carried"]


def test_without_a_carried_state_there_is_no_carried_mode():
    assembly = assembled(*FRESH, *FAST, "adapter.reset=sequence")
    assert set(scores_of(assembly, engine_of(assembly), tasks=1)) == {"slow", "fast"}


def test_loss_is_in_bits_per_scored_token():
    """A model that knows nothing needs log2(vocabulary) bits."""
    assembly = silenced(assembled(*FRESH, "adapter=none"))
    scores = scores_of(assembly, engine_of(assembly), tasks=1)
    for quantity in ("loss", "loss_early", "loss_late"):
        assert scores["slow"][quantity][0] == pytest.approx(5.0)


def test_masked_outputs_take_no_part_in_training_or_evaluation():
    """In the task scenario, labels of other tasks get no gradient, and chance is one of two."""
    typed = [*without(FRESH, "source", "task.held_out", "task.num_tasks"), "source=digits", "adapter=none"]
    typed += ["task.num_tasks=2", "task.classes_per_task=2"]
    by_scenario = {name: silenced(assembled(*typed, f"task.scenario={name}")) for name in ("task", "class")}
    losses = {
        name: scores_of(assembly, engine_of(assembly), tasks=1)["slow"]["loss"][0]
        for name, assembly in by_scenario.items()
    }
    assert losses == {"task": pytest.approx(1.0), "class": pytest.approx(math.log2(266))}
    batch = by_scenario["task"].stream.tasks[0].batch(0)
    logits_BTV = torch.zeros(*batch.tokens_BT.shape, 266, requires_grad=True)
    F.cross_entropy(competing(logits_BTV, batch).flatten(0, 1), batch.targets_BT.flatten()).backward()
    touched = logits_BTV.grad.abs().sum((0, 1)).nonzero().flatten()
    assert touched.tolist() == batch.outputs_BV[0].nonzero().flatten().tolist()
