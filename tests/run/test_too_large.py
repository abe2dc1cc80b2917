"""Sizes that no memory holds end in one line, before a run begins and inside it."""

from __future__ import annotations

import json

import pytest
from harness import FAST, SMALL, TINY, only_run, run_here

from ttt.training import train as training


@pytest.mark.parametrize(
    "word",
    ["model.mlp_width=9223372036854775808", "model.mlp_width=100000000000000", "task.batch_size=100000000000000"],
)
def test_sizes_beyond_memory_are_refused(tmp_path, word):
    outcome = run_here([*TINY, *FAST, word], tmp_path)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "too large" in outcome.err
    assert not list(tmp_path.rglob("results.json"))


def test_memory_that_runs_out_inside_a_run_is_no_bug(tmp_path, monkeypatch):
    def exhausted(*args, **rest):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes.")

    monkeypatch.setattr(training, "loss_of", exhausted)
    outcome = run_here([*SMALL, *FAST, "base=none"], tmp_path)
    assert outcome.code == 2
    status = json.loads((only_run(tmp_path) / "status.json").read_text())
    assert status["status"] == "failed"
    assert "10 bytes" in status["reason"]
    assert not (only_run(tmp_path) / "lock").exists()
