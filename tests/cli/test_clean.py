"""`ttt-run clean`: what finished runs leave behind goes, and nothing else."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from commands import assert_refused
from harness import FAST, TINY, only_run, run_here

from ttt.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A finished run, its cache with a base, and the base and data of nobody."""
    where = tmp_path_factory.mktemp("clean")
    assert run_here([*TINY, *FAST, "cache_dir=cache"], where).code == 0
    for kind in ("base", "data"):
        (where / "cache" / kind / "unused").mkdir(parents=True)
        (where / "cache" / kind / "unused" / "file").write_text("x" * 2000)
    sweep = where / "outputs" / "sweeps" / "20260101-1"
    sweep.mkdir(parents=True)
    (sweep / "0001.log").write_text("log")
    (sweep / "0001.json").write_text(json.dumps({"status": "done"}))
    return where


@pytest.fixture
def where(original, tmp_path):
    """A copy whose notes are of the copy."""
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    for note in (copy / "cache" / "runs").iterdir():
        note.write_text(note.read_text().replace(str(original), str(copy)))
    return copy


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def clean(where, *words):
    return run_here(["clean", "--cache", "cache", *words], where)


def test_without_yes_it_lists_and_touches_nothing(where):
    before = files_in(where)
    outcome = clean(where)
    assert outcome.code == 0
    for what in ("checkpoint: 1,", "base: 1, 2 kB", "data: 1, 2 kB", "log: 1, 21 B", "4 leftovers", "--yes"):
        assert what in outcome.out
    assert "task-0002" in outcome.out
    assert files_in(where) == before


def test_what_runs_need_stays(where):
    run = only_run(where)
    before = files_in(where)
    used = {path.name for path in (where / "cache" / "base").iterdir() if path.is_dir()} - {"unused"}
    assert len(used) == 1
    assert "4 removed" in clean(where, "--yes").out
    gone = before - files_in(where)
    assert all("task-0002/" in file or "/unused/" in file or "sweeps/" in file for file in gone)
    assert [path.name for path in run.glob("checkpoints/task-*")] == ["task-0003"]
    assert "already done" in run_here([*TINY, *FAST, "cache_dir=cache"], where).out
    assert "0 leftovers" in clean(where).out
    assert "task-0003" in clean(where, "--all", "--yes").out
    assert not list(run.glob("checkpoints/task-*"))
    assert "already done" in run_here([*TINY, *FAST, "cache_dir=cache"], where).out


@pytest.mark.parametrize("status", ["running", "failed", "requeue"])
def test_a_run_that_is_not_done_keeps_everything(where, status):
    RunFolder(only_run(where)).set_status(status)
    assert "checkpoint" not in clean(where, "--all").out


def test_a_sweep_that_runs_keeps_its_logs(where):
    (job,) = where.glob("outputs/sweeps/*/0001.json")
    job.write_text(json.dumps({"status": "running", "host": os.uname().nodename, "pid": os.getpid()}))
    assert "log:" not in clean(where).out


def test_links_are_not_followed(where, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    run = only_run(where)
    shutil.copytree(run, elsewhere / "run")
    (where / "outputs" / "linked").symlink_to(elsewhere, target_is_directory=True)
    shutil.rmtree(run / "checkpoints" / "task-0002")
    (run / "checkpoints" / "task-0002").symlink_to(elsewhere, target_is_directory=True)
    shutil.rmtree(where / "cache" / "data" / "unused")
    (where / "cache" / "data" / "unused").symlink_to(elsewhere, target_is_directory=True)
    before = files_in(elsewhere)
    out = clean(where, "--yes").out
    assert "checkpoint" not in out
    assert "data" not in out
    assert files_in(elsewhere) == before


def test_the_cache_of_runs_that_say_nothing_is_kept(where):
    shutil.rmtree(where / "cache" / "runs")
    out = clean(where).out
    assert "cache kept: 1 runs" in out
    assert "base:" not in out
    # A run that is gone needs nothing.
    shutil.rmtree(only_run(where))
    assert "base: 2" in clean(where).out


def test_wrong_words_are_one_line(tmp_path):
    assert_refused(run_here(["clean", "nowhere"], tmp_path), "nowhere")
    assert_refused(run_here(["clean", "--everything"], tmp_path), "--everything")
    assert_refused(run_here(["sync"], tmp_path), "RUN")
    # Behind an override it is no word of its own.
    assert_refused(run_here(["seed=1", "clean"], tmp_path), "clean")
