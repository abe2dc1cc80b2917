"""What a model knew before the stream: scores against a naive reading, and that it only reads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from assembling import assembled, without
from harness import SMALL
from learning import engine_of, losses_of

from ttt.evaluation.diagnose import Diagnosis
from ttt.evaluation.evaluate import evaluate
from ttt.evaluation.known import measure_known, option_log_p, scores_of_items
from ttt.learner import slow_hash
from ttt.storage.checkpoint import rng_tensors
from ttt.stream import IGNORE, Batch, Items
from ttt.tasks.known import FILE, option_rows, read_items

TEXT = (*without(SMALL, "source=", "task.held_out", "task.num_tasks"), "source=prose", "task=stationary", "base=none")
CARRIED = (*TEXT, "adapter=ttt_linear", "adapter.chunk=4", "adapter.reset=never")
KNOWN = "eval.known=[prose,items]"


def taught(*overrides, steps=3):
    """Return an assembly and its engine after a few steps."""
    assembly = assembled(*overrides, KNOWN)
    engine = engine_of(assembly)
    losses_of(engine, assembly, 0, steps=steps)
    return assembly, engine


def naive_log_p(engine, rows, state, *, write):
    """Return log2 p of each row's option, each row read alone and without its padding."""
    log_p = []
    for tokens, targets, segment in zip(*rows[:3], strict=True):
        length = int((segment == 0).sum())
        batch = Batch(tokens[None, :length], targets[None, :length], segment[None, :length])
        with torch.no_grad():
            logits = engine.learner(batch, state, write=write)[0][0].double().log_softmax(-1)
        log_p.append(sum(float(logits[t, y]) for t, y in enumerate(targets[:length]) if y != IGNORE) / math.log(2))
    return log_p


@pytest.mark.parametrize("overrides", [CARRIED, (*TEXT, "adapter=none")], ids=["carried", "none"])
def test_items_are_what_a_naive_reading_says(overrides):
    assembly, engine = taught(*overrides)
    few = option_rows(read_items(FILE)[::12], source=assembly.source)
    sets = type(assembly.known_sets)(items={"few": few})
    scores = measure_known(engine, sets, recipe=assembly.recipe)["few"]
    blank = engine.learner.adapter.initial()
    starts = {"slow": (blank, False), "fast": (blank, True), "carried": (engine.shared_fast(), True)}
    for mode, numbers in scores.items():
        log_p = naive_log_p(engine, few.rows, starts[mode][0], write=starts[mode][1])
        hits = norm_hits = right = 0
        for item, start in enumerate(range(0, len(log_p), 4)):
            options, answer = log_p[start : start + 4], few.answers[item]
            per_byte = [x / float(n) for x, n in zip(options, few.bytes_R[start : start + 4], strict=True)]
            hits += options.index(max(options)) == answer
            norm_hits += per_byte.index(max(per_byte)) == answer
            right += options[answer]
        assert numbers["accuracy"] == [hits / 10]
        assert numbers["acc_norm"] == [norm_hits / 10]
        assert numbers["log_p_right"] == [pytest.approx(right / 10, rel=1e-4)]
    assert set(scores) == ({"slow", "fast", "carried"} if overrides is CARRIED else {"slow", "fast"})
    assert (scores["slow"] == scores["fast"]) is (overrides is not CARRIED)


class OneOfTwo:
    """One of two devices, which gets back what it gives; the test adds up what both give."""

    world_size = 2

    def __init__(self, fabric, rank):
        self.device, self.autocast, self.global_rank = fabric.device, fabric.autocast, rank

    def all_reduce(self, x, *, reduce_op):
        assert reduce_op == "sum"
        return x


def test_devices_share_the_rows():
    assembly, engine = taught(*TEXT, "adapter=none")
    # An odd number of rows: one device reads a row that does not count.
    rows = assembly.known_sets.items["items"].rows.rows(0, 11)
    alone = option_log_p(engine, rows, {}, write=False)
    parts = [
        option_log_p(replace(engine, fabric=OneOfTwo(engine.fabric, rank)), rows, {}, write=False) for rank in (0, 1)
    ]
    torch.testing.assert_close(sum(parts), alone)
    assert all(int((part != 0).sum()) in (5, 6) for part in parts)


def test_accuracy_counts_sums_or_means_over_bytes():
    """By its sum a short option wins, by its mean over bytes a long one; numbers may differ."""
    rows = Batch(*torch.zeros(3, 5, 1, dtype=torch.int64))
    items = Items(rows, options=[3, 2], answers=[1, 0], bytes_R=torch.tensor([1, 4, 2, 2, 2]))
    scores = scores_of_items(torch.tensor([-2.0, -4.0, -9.0, -1.0, -3.0]), items)
    assert scores == {"accuracy": [0.5], "acc_norm": [1.0], "log_p_right": [-2.5]}


def test_a_model_that_knows_nothing_is_indifferent():
    """With equal odds for every byte, log p is eight bits for each byte of the option."""
    assembly = assembled(*TEXT, "adapter=none", KNOWN)
    engine = engine_of(assembly)
    for parameter in engine.learner.model.parameters():
        torch.nn.init.zeros_(parameter)
    scores = measure_known(engine, assembly.known_sets, recipe=assembly.recipe)
    lengths = [len(item.options[item.answer].encode()) + 1 for item in read_items(FILE)]
    assert scores["items"]["slow"]["log_p_right"] == [pytest.approx(-8 * sum(lengths) / 120)]
    assert scores["prose"]["slow"]["loss"] == [pytest.approx(8.0)]


def test_texts_are_scored_as_tasks_are():
    assembly, engine = taught(*CARRIED)
    scores = measure_known(engine, assembly.known_sets, recipe=assembly.recipe)
    assert scores["prose"] == evaluate(engine, [assembly.known_sets.texts["prose"]], recipe=assembly.recipe)
    assert assembly.known_sets.texts["prose"].tokens_BT.shape == (8, 16)


def test_it_only_reads():
    assembly, engine = taught(*CARRIED)
    diagnosis = Diagnosis.at_base(
        engine, assembly.stream, strategy=assembly.recipe.strategy, texts=assembly.known_sets.texts
    )
    learner = engine.learner
    fast = {name: x.clone() for name, x in learner.fast.items()}
    before = slow_hash(learner.model), rng_tensors()["cpu"]
    first = measure_known(engine, assembly.known_sets, recipe=assembly.recipe), diagnosis.measure(engine)
    assert slow_hash(learner.model) == before[0]
    assert torch.equal(rng_tensors()["cpu"], before[1])
    assert all(torch.equal(x, learner.fast[name]) for name, x in fast.items())
    assert learner.training
    assert (measure_known(engine, assembly.known_sets, recipe=assembly.recipe), diagnosis.measure(engine)) == first


def test_drift_on_a_text_is_the_divergence_of_its_predictions():
    assembly, engine = taught(*CARRIED)
    text = assembly.known_sets.texts["prose"]
    diagnosis = Diagnosis.at_base(engine, assembly.stream, strategy=assembly.recipe.strategy, texts={"prose": text})
    logits = []
    for steps in (0, 6):
        losses_of(engine, assembly, 0, steps=steps)
        with torch.no_grad():
            logits.append(engine.learner(text, engine.learner.adapter.initial(), write=True)[0])
        numbers = diagnosis.measure(engine)
        p, q = (x.double().log_softmax(-1).flatten(0, 1) for x in (logits[0], logits[-1]))
        bits = float((p.exp() * (p - q)).sum(-1).mean()) / math.log(2)
        assert numbers["drift/fast/kl_known_prose"] == pytest.approx(bits, abs=1e-9, rel=1e-4)
    assert bits > 0
    assert numbers["drift/slow/kl_known_prose"] != numbers["drift/fast/kl_known_prose"]
    # The text is another one than that of the base distribution.
    assert numbers["drift/fast/kl_known_prose"] != numbers["drift/fast/kl_base"]
