"""A run that was killed, stopped or damaged goes on to the numbers of one that never stopped."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest
from assembling import assembled
from commands import assert_refused
from harness import FAST, TINY, only_run, run_here, start

from ttt.cli.runs import one
from ttt.run import execute
from ttt.storage.checkpoint import Checkpoint, load, load_newest, name_after, save


def wait_for(pattern, *, below, process):
    """Wait until a file of a running process is there."""
    deadline = time.monotonic() + 240
    while not list(below.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Where a small run is done: a test works on a copy."""
    folder = tmp_path_factory.mktemp("finished")
    assert run_here([*TINY, *FAST], folder).code == 0
    return folder


def test_killed_after_a_task_and_started_again_equals_uninterrupted(tmp_path):
    """kill -9 inside a later task; the same command goes on from the last finished one."""
    job = [*TINY, *FAST, "task.num_tasks=6", "task.steps_per_task=40", "adapter.reset=never", "trainer.report_every=5"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert run_here(job, whole).code == 0
    process = start(job, killed)
    wait_for("outputs/*/*/*/checkpoints/task-0003", below=killed, process=process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folder = only_run(killed)
    assert json.loads((folder / "status.json").read_text())["status"] == "running"
    assert not (folder / "results.json").exists()
    resumed = run_here(job, killed)
    assert resumed.code == 0
    assert "resuming after task" in resumed.out
    assert (folder / "results.json").read_bytes() == (only_run(whole) / "results.json").read_bytes()
    # The journal was cut to the checkpoint: nothing is measured twice in it.
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    keys = [(event["event"], event.get("row"), event["step"]) for event in events]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGHUP, 75)]
)
def test_a_stopped_run_says_so_and_can_go_on(tmp_path, number, code):
    process = start([*TINY, *FAST, "task.steps_per_task=2000"], tmp_path)
    wait_for("outputs/*/*/*/checkpoints/task-0000", below=tmp_path, process=process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "the same command resumes" in err
    assert "Traceback" not in err
    folder = only_run(tmp_path)
    assert json.loads((folder / "status.json").read_text())["status"] == "requeue"
    assert not (folder / "lock").exists()


def stop(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_before_the_stream_says_so_and_frees_the_folder(tmp_path, monkeypatch):
    """While random networks are measured, and while data is prepared."""
    monkeypatch.setattr(one, "_references", lambda assembly, quiet: {"joint": tmp_path})
    monkeypatch.setattr(execute, "measured", stop)
    assert run_here([*TINY, *FAST, "references=true"], tmp_path).code == 130
    folder = only_run(tmp_path)
    assert json.loads((folder / "status.json").read_text())["status"] == "requeue"
    assert not (folder / "lock").exists()
    monkeypatch.setattr(one, "assemble", stop)
    outcome = run_here([*TINY, *FAST], tmp_path)
    assert outcome.code == 130
    assert len(outcome.err.splitlines()) == 1


def test_the_newest_checkpoint_has_the_highest_row(tmp_path):
    for row in (9999, 10000):
        save(tmp_path / name_after(row), Checkpoint({}, {"row": row}))
    newest, _ = load_newest(tmp_path)
    assert newest is not None
    assert newest.state["row"] == 10000


def test_a_folder_in_use_is_refused_until_its_owner_is_dead(tmp_path):
    job = [*TINY, *FAST, "task.steps_per_task=2000"]
    process = start(job, tmp_path)
    wait_for("outputs/*/*/*/lock", below=tmp_path, process=process)
    (lock,) = tmp_path.glob("outputs/*/*/*/lock")
    refused = run_here(job, tmp_path)
    process.kill()
    process.communicate()
    assert_refused(refused, f"pid {process.pid}")
    # The lock of a dead process lies in the folder of another run, which takes it over.
    quick = [*TINY, *FAST]
    folder = tmp_path / assembled(*quick).info.folder
    folder.mkdir(parents=True)
    shutil.copy(lock, folder / "lock")
    assert run_here(quick, tmp_path).code == 0
    assert not (folder / "lock").exists()


def test_a_damaged_checkpoint_is_passed_over(finished, tmp_path):
    shutil.copytree(finished / "outputs", tmp_path / "outputs")
    folder = only_run(tmp_path)
    reference = (folder / "results.json").read_bytes()
    newest, older = sorted(folder.glob("checkpoints/task-*"))[::-1]
    blob = newest / "slow.safetensors"
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ValueError, match=r"slow\.safetensors"):
        load(newest)
    load(older)
    (folder / "status.json").unlink()
    (folder / "results.json").unlink()
    again = run_here([*TINY, *FAST], tmp_path)
    assert "passed over a damaged checkpoint" in again.out
    assert (folder / "results.json").read_bytes() == reference


def test_what_cannot_be_measured_is_nan_in_a_run_that_stops_and_goes_on(tmp_path):
    """Recall scores nothing in the first half: null in every file, and no obstacle to resuming."""
    small = [o for o in TINY if o not in ("source=recall", "task.held_out=10", "task.seq_len=16")]
    job = [*small, *FAST, "task=recall-sequence", "source=automata", "task.seq_len=32", "task.distances=[8,16]",
           "task.facts=[2]"]  # fmt: skip
    assert run_here(job, tmp_path).code == 0
    folder = only_run(tmp_path)
    results = (folder / "results.json").read_bytes()
    content = json.loads(results)
    assert content["rows"][0]["scores"]["fast"]["loss_early"] == [None, None]
    assert content["metrics"]["fast/loss_early/avg_final"] is None
    assert "fast/loss_early/avg_final" in content["undefined"]
    assert content["metrics"]["fast/loss_late/avg_final"] > 0
    # Forget the last task and the end: the same command goes on from the checkpoint before.
    shutil.rmtree(sorted((folder / "checkpoints").iterdir())[-1])
    (folder / "results.json").unlink()
    (folder / "status.json").write_text(json.dumps({"status": "requeue"}))
    assert run_here(job, tmp_path).code == 0
    assert (folder / "results.json").read_bytes() == results
