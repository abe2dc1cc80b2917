"""Bases: who shares one, who waits for one, and what comes from a run or a file."""

from __future__ import annotations

import pytest
import torch
from assembling import assembled
from commands import assert_refused
from filelock import FileLock
from harness import FAST, SMALL, TINY, only_run, run_here

from ttt.results.events import Waiting
from ttt.storage.checkpoint import load


def weights_of(assembly, watch=lambda event: None):
    return assembly.base_weights(assembly.settings.fabric(), watch)


def test_a_base_is_shared_by_seeds_and_lifetimes_and_by_nothing_else(tmp_path):
    def bases(*overrides: str) -> set[str]:
        weights_of(assembled(*TINY, *FAST, f"cache_dir={tmp_path}", *overrides))
        return {path.name for path in (tmp_path / "base").glob("*/")}

    first = bases()
    assert len(first) == 1
    for same in ("seed=3", "adapter.reset=never", "adapter.carry=lane", "optimizer.lr=0.1"):
        assert bases(same) == first
    for other in ("adapter.decay=0.5", "base.lr=0.001", "source.num_keys=5", "model.layers=1"):
        before = len(bases())
        assert len(bases(other)) == before + 1


def test_a_run_says_that_it_waits_for_the_base_of_another(tmp_path):
    assembly, events = assembled(*TINY, *FAST, f"cache_dir={tmp_path}"), []
    assert weights_of(assembly, events.append) is not None
    assert not any(isinstance(event, Waiting) for event in events)
    (lock,) = tmp_path.glob("base/*.lock")
    other = FileLock(lock)
    other.acquire()

    def watch(event):
        events.append(event)
        other.release()

    events.clear()
    assert weights_of(assembly, watch) is not None
    assert [type(event) for event in events] == [Waiting]


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """The folder of a finished run without fast weights."""
    folder = tmp_path_factory.mktemp("plain")
    assert run_here([*TINY, "adapter=none"], folder).code == 0
    return only_run(folder)


def test_a_base_from_a_run_or_a_file(plain_run):
    newest = sorted(plain_run.glob("checkpoints/task-*"))[-1]
    trained = load(newest).tensors["slow"]
    for path in (plain_run, newest / "slow.safetensors"):
        # A plain model's weights fit under fast weights, which start at their own initial values.
        assembly = assembled(*SMALL, *FAST, "base=checkpoint", f"base.path={path}")
        assembly.load(weights_of(assembly))
        parameters = dict(assembly.learner.model.named_parameters())
        assert all(torch.equal(parameters[name], tensor) for name, tensor in trained.items())


def test_a_base_that_does_not_fit_is_refused_and_leaves_no_folder(plain_run, tmp_path):
    typed = [*SMALL, "adapter=none", "model.width=32", "base=checkpoint", f"base.path={plain_run}"]
    assert_refused(run_here(typed, tmp_path), "base: ", "[32, ")
    assert not (tmp_path / "outputs").exists()


def test_a_path_that_holds_no_weights_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("not tensors")
    for path in ("nowhere", "empty", "text.safetensors"):
        outcome = run_here([*SMALL, "base=checkpoint", f"base.path={path}"], tmp_path)
        assert_refused(outcome, f"base.path={path}: ")
    assert_refused(run_here([*SMALL, "base=checkpoint"], tmp_path), "base=checkpoint", "base.path")
    assert not (tmp_path / "outputs").exists()
