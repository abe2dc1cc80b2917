"""Vectors in place of tokens: what a batch holds, which outputs compete, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from assembling import assembled, refusal_of, without
from commands import assert_refused
from harness import run_here
from vectors import SPLIT, VECTORS

from ttt.tasks.machinery.passes import PassCache


def stream_of(*overrides):
    return assembled(*VECTORS, *overrides).stream


def split_tasks(*overrides):
    return assembled(*without(VECTORS, "task=", "task.permute", "task.num"), *SPLIT, *overrides).stream.tasks


def test_an_image_is_one_position_with_its_label():
    batch = stream_of("task.steps_per_task=one-pass").tasks[0].batch(0)
    assert batch.tokens_BT.shape == (16, 1, 64)
    assert batch.tokens_BT.dtype == torch.float32
    assert 0 <= batch.tokens_BT.min() < batch.tokens_BT.max() <= 1
    assert batch.targets_BT.shape == batch.segment_BT.shape == (16, 1)
    assert batch.num_tokens == 16


@pytest.mark.parametrize("steps", ["one-pass", "7"])
def test_positions_are_permuted_alike_in_every_batch_and_in_evaluation(steps):
    """A permutation keeps the pixel values of an image and moves them."""
    assembly = assembled(*VECTORS, f"task.steps_per_task={steps}")
    task, source = assembly.stream.tasks[0], assembly.source
    images = source.take(source.units(np.arange(10), length=1)[:, None], length=1).tokens_BT[:, 0]
    sorted_images = {tuple(row.tolist()) for row in images.sort(-1).values}
    for batch in (task.batch(0), task.batch(1), task.evaluation()):
        rows = batch.tokens_BT[:, 0]
        assert not torch.equal(rows, rows.sort(-1).values)
    assert all(tuple(row.tolist()) in sorted_images for row in task.batch(0).tokens_BT[:, 0].sort(-1).values)


def test_all_eval_examples_are_read_once():
    assembly = assembled(*VECTORS, "task.eval_sequences=all")
    batch = assembly.stream.tasks[0].evaluation()
    assert len(batch.tokens_BT) == assembly.source.rows["eval examples"]
    # Some images of the source are equal.
    assert len({tuple(row.tolist()) for row in batch.tokens_BT[:, 0]}) >= len(batch.tokens_BT) - 5


def test_outputs_that_compete_follow_the_scenario():
    """class: all compete; task: those of the task; domain: the labels that all tasks share."""
    by_class, by_task, by_domain = (split_tasks(f"task.scenario={name}") for name in ("class", "task", "domain"))
    assert by_class[1].batch(0).outputs_BV is None
    for task in by_task:
        batch = task.batch(0)
        assert batch.outputs_BV.sum(-1).eq(2).all()
        assert batch.outputs_BV.gather(1, batch.targets_BT).all()
    assert len({tuple(task.batch(0).outputs_BV[0].tolist()) for task in by_task}) == 5
    for task in by_domain:
        batch = task.batch(0)
        assert set(batch.targets_BT.flatten().tolist()) == {0, 1}
        assert batch.outputs_BV[0].tolist() == [True] * 2 + [False] * 8


def test_classes_in_the_order_of_the_source():
    names = [task.name for task in split_tasks("task.order=source")]
    assert names[:2] == ["digit 0 + digit 1", "digit 2 + digit 3"]


def test_padded_and_standardised_pixels():
    plain = assembled(*VECTORS).source
    padded = assembled(*VECTORS, "source.pad=2", "source.standardise=true").source
    assert (plain.vector_size, padded.vector_size) == (64, 144)
    x = padded.take(padded.units(np.arange(10), length=1)[:, None], length=1).tokens_BT
    assert x.mean().abs() < 0.05
    assert abs(float(x.std()) - 1) < 0.05


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (["model=nano", "source.read_as=vectors"], ("source.read_as=vectors", "model=nano", "model=mlp")),
        (["source=recall", "task=split-sequence"], ("model=mlp", "source=recall")),
        (["adapter=mlp_fast"], ("adapter=mlp_fast", "model=mlp", "adapter=none")),
        (["task.permute=symbols"], ("task.permute=symbols",)),
        (["model.activation=rleu"], ("model.activation=rleu", "did you mean relu?")),
        (["model.widths=[0]"], ("model.widths=[0]", "at least 1")),
        (["task.steps_per_task=no-pass"], ("task.steps_per_task=no-pass", "at least 1", "one-pass")),
        (["optimizer.slow_every=0"], ("optimizer.slow_every=0", "at least 1")),
        (["optimizer.slow_every=often"], ("optimizer.slow_every=often", "integer")),
        (["optimizer.schedule=cosin"], ("optimizer.schedule=cosin", "did you mean cosine?")),
        (["source.pad=-1"], ("source.pad=-1", "0")),
        (["strategy@also=naive"], ("strategy@also=naive", "strategy=naive")),
        (["strategy=joint", "strategy@also=cumulative"], ("strategy@also=cumulative", "strategy=joint")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(typed, parts):
    left_out = [word.partition("=")[0] + "=" for word in typed]
    left_out += ["model."] if "model=nano" in typed else []
    left_out += ["task.permute"] if "task=split-sequence" in typed else []
    message = refusal_of(*without(VECTORS, *left_out), *typed)
    assert message.startswith(parts[0])
    for part in parts[1:]:
        assert part in message


def test_a_refusal_by_the_command_is_one_line_and_leaves_no_folder(tmp_path):
    assert_refused(run_here([*VECTORS, "strategy@also=nave"], tmp_path), "strategy@also=nave", "did you mean naive?")
    assert_refused(run_here([*VECTORS, "model.activation=rleu"], tmp_path), "model.activation=rleu")
    assert not (tmp_path / "outputs").exists()


def test_whoever_types_the_model_alone_gets_a_command_that_works(tmp_path):
    refused = run_here(["model=mlp"], tmp_path)
    assert_refused(refused, "model=mlp")
    works = refused.err.partition("this works: ttt-run ")[2].split()
    assert works[0] == "model=mlp"
    quick = [word for word in VECTORS if word.startswith(("task.steps", "task.eval", "trainer", "logger", "report"))]
    assert run_here([*works, *quick], tmp_path).code == 0


def test_samples_of_vectors_are_pictures(tmp_path):
    outcome = run_here([*VECTORS, "task.steps_per_task=3-pass", "optimizer.lr=0.2", "model.activation=tanh"], tmp_path)
    assert outcome.code == 0, outcome.err
    (samples,) = tmp_path.glob("outputs/*/*/*/samples.json")
    assert "█" in samples.read_text()


def test_passes_stay_in_memory_up_to_a_bound_and_come_back_alike():
    cache = PassCache(most=2 * 3 * 64)
    tasks = [stream_of(f"seed={seed}", "task.steps_per_task=one-pass").tasks[0] for seed in range(3)]
    made_for = []

    def batches(task):
        table = task.evaluation().rows(0, 2)
        return cache.find(task, 0) or cache.make(
            task, 0, make=lambda: made_for.append(task) or table, shuffle=lambda rows: rows.cut(1)
        )

    first = [batches(task)[1].tokens_BT for task in tasks]
    # The bound holds one pass and a half: the last one is there, the first was dropped.
    assert cache.find(tasks[2], 0) is not None
    assert cache.find(tasks[0], 0) is None
    assert torch.equal(batches(tasks[0])[1].tokens_BT, first[0])
    assert made_for == [*tasks, tasks[0]]
    assert cache.find(tasks[0], 1) is None
