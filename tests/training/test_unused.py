"""Batches in which nothing that learns takes part, since nothing is written in them."""

from __future__ import annotations

import json

import pytest
import torch
from harness import TINY, only_run, run_here

from ttt.learner import rooted

# Half of the batches are read without writes, and only what makes writes is learned.
DROPPED = ("adapter=mlp_fast", "adapter.chunk=4", "adapter.write_dropout=0.5", "adapter.write_dropout_in=both")
ONLY = (*DROPPED, "optimizer.only=[adapter]")


def test_gradients_are_zero_where_a_parameter_took_no_part():
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    (3 * used).sum().backward()
    loss = rooted(torch.tensor(5.0), [unused])
    loss.backward()
    assert loss == 5
    assert torch.equal(unused.grad, torch.zeros(2))
    # A loss that has a gradient stays the very same.
    assert rooted(used.sum(), [unused]).grad_fn.name() == "SumBackward0"


@pytest.mark.parametrize("strategy", ["naive", "agem", "ewc", "si", "mas"])
def test_a_run_goes_on_from_a_batch_in_which_nothing_learns(tmp_path, strategy):
    outcome = run_here([*TINY, *ONLY, f"strategy={strategy}", "logger=none"], tmp_path)
    assert outcome.code == 0, outcome.err
    metrics = json.loads((only_run(tmp_path) / "results.json").read_text())["metrics"]
    assert metrics["fast/loss/avg_before"] != metrics["fast/loss/avg_final"]
    assert metrics["slow/loss/avg_before"] == metrics["slow/loss/avg_final"]


def test_two_devices_take_the_same_steps_as_one(tmp_path):
    words, losses = [*TINY, *ONLY, "logger=none", "trainer.precision=32-true"], []
    for devices in ([], ["trainer=ddp", "trainer.devices=2"]):
        folder = tmp_path / str(len(losses))
        folder.mkdir()
        outcome = run_here([*words, *devices], folder)
        assert outcome.code == 0, outcome.err
        losses.append(json.loads((only_run(folder) / "results.json").read_text())["metrics"]["fast/loss/avg_final"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_a_look_into_the_model_whose_rows_are_too_short_for_a_write(tmp_path):
    """The units of a model are looked at in rows of 128 tokens."""
    words = [
        "adapter=mlp_fast",
        "adapter.write_at=prompt",
        "adapter.prompt=150",
        "optimizer.only=[adapter]",
        "adapter.rule=ridge",
    ]
    outcome = run_here([*TINY, *words, "task.seq_len=160", "task.eval_sequences=4", "logger=none"], tmp_path)
    assert outcome.code == 0, outcome.err
    gradients = {
        value
        for line in (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
        for name, value in json.loads(line).get("diagnostics", {}).items()
        if name == "probe/all/grad_l2"
    }
    assert gradients == {0.0}
