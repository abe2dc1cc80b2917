"""Recalibration for mode slow, against a plain loop and the scores of an evaluation."""

from __future__ import annotations

import pytest
import torch
from assembling import assembled
from harness import FAST, SMALL
from learning import engine_of

from ttt.evaluation.evaluate import evaluate
from ttt.learner import cross_entropy
from ttt.probes.slow import looks, recalibrate

TYPED = (*SMALL, *FAST, "base=none")


def test_looks_are_powers_of_two_and_the_last():
    assert looks(1) == [0, 1]
    assert looks(8) == [0, 1, 2, 4, 8]
    assert looks(11) == [0, 1, 2, 4, 8, 11]


def test_recalibration_against_a_plain_loop():
    ours, theirs = assembled(*TYPED), assembled(*TYPED)
    stream, seen = ours.stream, []
    rows = recalibrate(ours.learner, stream.base, stream.tasks, first=5, steps=3, lr=0.01, progress=seen.append)
    assert [row["step"] for row in rows] == seen == [0, 1, 2, 3]

    learner, engine = theirs.learner, engine_of(theirs)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=0.01, weight_decay=0.0)
    evaluations = [task.evaluation() for task in stream.tasks]
    for step, row in enumerate(rows):
        tasks = evaluate(engine, evaluations, recipe=theirs.recipe)
        base = evaluate(engine, [stream.base.evaluation()], recipe=theirs.recipe)
        for mode in ("slow", "fast"):
            assert row[f"{mode}_each"] == pytest.approx(tasks[mode]["loss"], rel=1e-5)
            assert row[f"{mode}_tasks"] == pytest.approx(sum(tasks[mode]["loss"]) / len(evaluations), rel=1e-5)
            assert row[f"{mode}_base"] == pytest.approx(base[mode]["loss"][0], rel=1e-5)
        logits_BTV, _ = learner(stream.base.batch(5 + step), learner.adapter.initial(), write=False)
        cross_entropy(logits_BTV, stream.base.batch(5 + step), reduction="mean").backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert rows[-1]["slow_base"] < rows[0]["slow_base"]
