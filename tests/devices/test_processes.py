"""`ttt-run` on two devices as one types it: how its processes start, stop, and fail."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from assembling import last_of
from commands import assert_refused
from harness import FAST, TINY, only_run, run_here, start
from sharing import free_port

from ttt.cli.runs import torchrun
from ttt.devices.processes import World
from ttt.storage.run_folder import RunFolder

# One process makes the warm server once.
pytestmark = pytest.mark.xdist_group("devices")

TWO = ("trainer=ddp", "trainer.devices=2")
# Long enough to be stopped on the way.
LONG = [*FAST, "adapter.reset=never", "task.steps_per_task=40", "base.seed=5"]


def typed(*words: str) -> list[str]:
    return last_of(*TINY, "task.batch_size=4", *words)


def numbers(content) -> list[float]:
    """Return all numbers of a JSON file, in order; null is NaN."""
    if isinstance(content, dict):
        return [x for key in sorted(content) for x in numbers(content[key])]
    if isinstance(content, list):
        return [x for inner in content for x in numbers(inner)]
    return [float("nan") if content is None else float(content)] if not isinstance(content, str) else []


def same_results(folder: Path, other: Path) -> None:
    ours, theirs = (json.loads((path / "results.json").read_text()) for path in (folder, other))
    assert ours["fingerprints"] == theirs["fingerprints"]
    assert len(numbers(ours["rows"])) > 100
    # Norms are far above one, and no nearer than the digits that a float has.
    assert numbers(ours["rows"]) == pytest.approx(numbers(theirs["rows"]), abs=1e-5, rel=1e-5, nan_ok=True)
    assert ours["metrics"].keys() == theirs["metrics"].keys()


def processes_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def is_alive(pid: int) -> bool:
    file = Path(f"/proc/{pid}/stat")
    return file.exists() and ") Z " not in file.read_text()


def wait_until(reached, *, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stopped(folder: Path, number: int) -> tuple[int, str, str]:
    """Start the command on two devices; send its first process a signal after the first task."""
    process = start(typed(*LONG, *TWO), folder)

    def reached() -> bool:
        assert process.poll() is None, process.communicate()
        return bool(list(folder.glob("outputs/*/*/*/checkpoints/task-0001")))

    wait_until(reached)
    ranks = processes_of(process.pid)
    assert len(ranks) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    # No rank outlives the process that started it, however that ended.
    wait_until(lambda: not any(map(is_alive, ranks)), seconds=60)
    return process.returncode, out, err


def by_torchrun(rank: int, port: int) -> dict[str, str]:
    """Return the environment that torchrun gives to one of two processes."""
    variables = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def test_two_processes_that_were_stopped_end_where_one_does(tmp_path):
    """Ctrl-C, then the same by torchrun: the results of one process that never stopped."""
    code, out, err = stopped(tmp_path, signal.SIGINT)
    assert code == 130
    assert "2 x cpu, ddp" in out
    # The first process speaks, the others are silent.
    assert (out.count("before the stream"), err.count("\n")) == (1, 2), err
    folder = only_run(tmp_path)
    assert json.loads((folder / "status.json").read_text())["status"] == "requeue"
    assert not (folder / "results.json").exists()

    port = free_port()
    ranks = [start(typed(*LONG, "trainer=ddp"), tmp_path, variables=by_torchrun(rank, port)) for rank in range(2)]
    shown, silent = (rank.communicate(timeout=200) for rank in ranks)
    assert [rank.returncode for rank in ranks] == [0, 0], shown
    assert shown[0].count("resuming after") == 1
    assert silent == ("", "")
    alone = tmp_path / "alone"
    alone.mkdir()
    assert run_here(typed(*LONG, f"cache_dir={alone}/cache"), alone).code == 0
    same_results(folder, only_run(alone))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    keys = [(line["event"], line.get("row"), line["step"]) for line in lines]
    assert len(keys) == len(set(keys))
    # Another number of devices is the same run.
    shown = run_here(typed(*LONG), tmp_path)
    assert "already done" in shown.out
    assert "of which evaluation" in shown.out
    status = json.loads((folder / "status.json").read_text())
    assert 0 < status["evaluation_seconds"] < status["seconds"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trainer=dpp"], ["trainer=dpp", "did you mean ddp?"]),
        (["trainer=ddp", "trainer.devices=two"], ["trainer.devices=two", "auto", "at least 1"]),
        (["trainer=ddp", "trainer.devices=3"], ["task.batch_size=4", "3 devices"]),
        (["trainer.accumulate=3"], ["task.batch_size=4", "trainer.accumulate=3"]),
        (["trainer=ddp", "trainer.nodes=2"], ["trainer.nodes=2"]),
        (["trainer.devices=2"], ["trainer.devices=2", "trainer.strategy=single"]),
        (["trainer.strategy=dp"], ["trainer.strategy=dp", "did you mean ddp?"]),
        (["trainer=ddp", "trainer.devices=2", "model.width=17"], ["model.width=17"]),
        (["trainer=fsdp", "trainer.devices=2", "adapter=sgd_fast"], ["adapter=sgd_fast"]),
        (["eval.tasks=some"], ["eval.tasks=some", "all", "at least 1"]),
    ],
)
def test_a_wrong_word_is_one_line_and_starts_nothing(tmp_path, words, parts):
    outcome = run_here(typed("adapter=mlp_fast", "adapter.chunk=4", *words), tmp_path)
    assert_refused(outcome, *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environment", "words", "parts"),
    [
        ({"LOCAL_WORLD_SIZE": "2"}, ["trainer=ddp", "trainer.devices=3"], ["trainer.devices=3", "torchrun started 2"]),
        ({"LOCAL_WORLD_SIZE": "1"}, ["trainer=ddp", "trainer.nodes=3"], ["trainer.nodes=3", "torchrun started 2"]),
        ({"LOCAL_WORLD_SIZE": "2"}, [], ["torchrun started 2", "trainer=ddp"]),
        ({"LOCAL_WORLD_SIZE": "2"}, ["-m", "seed=0,1"], ["-m", "torchrun"]),
    ],
)
def test_what_contradicts_the_starter_is_refused(tmp_path, monkeypatch, environment, words, parts):
    for name, value in ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"} | environment).items():
        monkeypatch.setenv(name, value)
    assert_refused(run_here(typed(*FAST, *words), tmp_path), *parts)


def test_slurm_says_how_many_processes_there_are(monkeypatch):
    slurm = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_LOCALID": "1"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    world = World.of(strategy="ddp", devices="auto", nodes="auto", device=torch.device("cpu"))
    assert (world.devices, world.nodes, world.must_start) == (4, 2, False)
    # Tasks of a job that have nothing to do with each other.
    assert World.of(strategy="single", devices="auto", nodes="auto", device=torch.device("cpu")).size == 1


@pytest.mark.parametrize(
    ("codes", "code", "status", "word"),
    [
        ({0: 76, 1: 76}, 76, "failed", ""),
        ({0: 143, 1: 70}, 70, "failed", "process 1 failed"),
        ({0: 75, 1: 70}, 70, "failed", "process 1 failed"),
        ({0: 143, 1: -9}, 70, "requeue", "process 1 was killed by signal 9"),
        ({0: 2}, 2, "requeue", ""),
    ],
)
def test_one_exit_code_and_status_name_who_failed_first(tmp_path, codes, code, status, word):
    folder = RunFolder(tmp_path / "run")
    folder.open()
    # What the first process could still write.
    folder.set_status("failed" if codes[0] == 76 else "requeue", reason="")
    assert torchrun.exit_code_of(codes, folder) == code
    assert folder.status()["status"] == status
    assert word in folder.status()["reason"]
