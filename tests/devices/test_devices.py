"""Two devices do what one does: two real gloo processes on a CPU, and `ttt-run` as one types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from harness import FAST, TINY, only_run, run_here, start
from sharing import STEPS, base_weights, config_of, learn, save_and_go_on, together

from ttt.cli.runs import torchrun
from ttt.devices.processes import World
from ttt.evaluation.plan import Plan
from ttt.storage.checkpoint import load
from ttt.storage.run_folder import RunFolder

# One process makes the costly fixtures once.
pytestmark = pytest.mark.xdist_group("devices")

DDP, FSDP = ("trainer=ddp",), ("trainer=fsdp",)
CARRY = (*FAST, "adapter.step=0.5")
# What runs on two devices, and what one must agree with.
CASES = {
    "none": ["adapter=none"],
    "reset=sequence": [*CARRY, "adapter.reset=sequence"],
    "reset=task": [*CARRY, "adapter.reset=task"],
    "carry=lane": [*CARRY, "adapter.reset=never", "adapter.carry=lane"],
    "carry=lane, a lane each": [*CARRY, "adapter.reset=never", "adapter.carry=lane", "task.batch_size=2"],
    "beside attention": ["adapter=delta_fast", "adapter.reset=task"],
}
ACCUMULATE = {"accumulate": CASES["reset=task"], "accumulate lanes": CASES["carry=lane"]}
SHARDED = {name: CASES[name] for name in ("none", "reset=task", "beside attention")}
# Unlike Adam, SGD shows the size of every gradient: of what is cut, and of the step sizes, which are not.
SHARDED["clipped"] = [*CASES["reset=task"], "optimizer=sgd", "optimizer.lr=1.0", "optimizer.clip=0.05"]
FEW = 4
BASE = (*FAST, "base=pretrain", "base.steps=6", "base.warmup=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def shared(folder):
    """What each of two processes found, by strategy and case."""
    jobs = {
        ("ddp", name): ("learn", {"config": config_of(*DDP, *case), "steps": STEPS}) for name, case in CASES.items()
    }
    for name, case in ACCUMULATE.items():
        jobs["ddp", name] = ("learn", {"config": config_of(*DDP, *case, "trainer.accumulate=2"), "steps": FEW})
    bf16 = config_of(*DDP, *CASES["reset=task"], "trainer.precision=bf16-mixed")
    jobs["ddp", "bf16"] = ("learn", {"config": bf16, "steps": FEW})
    for name, case in SHARDED.items():
        jobs["fsdp", name] = ("learn", {"config": config_of(*FSDP, *case), "steps": FEW})
    part = config_of(*FSDP, *CASES["reset=task"], "trainer.accumulate=2")
    jobs["fsdp", "accumulate"] = ("learn", {"config": part, "steps": FEW})
    for strategy in (DDP, FSDP):
        name = strategy[0].removeprefix("trainer=")
        (folder / name).mkdir()
        for goes_on in (False, True):
            job = {"config": config_of(*strategy, *CARRY, "adapter.reset=never"), "folder": folder / name}
            jobs[name, f"goes on: {goes_on}"] = ("save_and_go_on", job | {"goes_on": goes_on})
    for name, strategy in (("ddp", DDP), ("fsdp", FSDP)):
        pretrained = config_of(*strategy, *BASE, f"cache_dir={folder / name}")
        jobs[name, "base"] = ("base_weights", {"config": pretrained})
    jobs["ddp", "refuse"] = ("refuse", {"config": config_of(*DDP, "adapter=none")})
    found = together(list(jobs.values()), folder / "found")
    return dict(zip(jobs, zip(*found, strict=True), strict=True))


def close(ours, theirs, *, within: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, atol=within, rtol=within)


def agree(both, alone) -> None:
    for own in both:
        close(torch.tensor(own["losses"]), torch.tensor(alone["losses"]))
        close(own["scores"], alone["scores"])
        close(own["fast"], alone["fast"])
        # Adam's first steps have the size of the rate, whatever the gradient: rounding shows there first.
        close(own["slow"], alone["slow"], within=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_two_devices_learn_and_measure_what_one_does(shared, name):
    agree(shared["ddp", name], learn(config_of(*CASES[name]), STEPS))


@pytest.mark.parametrize("name", ACCUMULATE)
def test_a_batch_in_parts_is_the_whole_batch(shared, name):
    alone = learn(config_of(*ACCUMULATE[name]), FEW)
    agree(shared["ddp", name], alone)
    agree([learn(config_of(*ACCUMULATE[name], "trainer.accumulate=4"), FEW)], alone)


@pytest.mark.parametrize("name", SHARDED)
def test_what_is_cut_over_two_devices_steps_like_a_whole(shared, name):
    alone = learn(config_of(*SHARDED[name]), FEW)
    agree(shared["fsdp", name], alone)


def test_parts_of_what_is_cut(shared):
    agree(shared["fsdp", "accumulate"], learn(config_of(*CASES["reset=task"]), FEW))


def test_half_precision_on_two_devices(shared):
    alone = learn(config_of(*CASES["reset=task"], "trainer.precision=bf16-mixed"), FEW)
    full = learn(config_of(*CASES["reset=task"]), FEW)
    first, second = (torch.tensor(own["losses"]) for own in shared["ddp", "bf16"])
    assert torch.equal(first, second)
    close(first, torch.tensor(alone["losses"]), within=2e-2)
    # It was computed in half precision.
    assert not torch.allclose(first, torch.tensor(full["losses"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_checkpoint_of_two_devices_serves_two_and_one(shared, folder, strategy):
    before, after = shared[strategy, "goes on: False"], shared[strategy, "goes on: True"]
    for own, again in zip(before, after, strict=True):
        assert own["losses"] == again["losses"]
        assert all(torch.equal(x, again["slow"][name]) for name, x in own["slow"].items())
    saved = load(folder / strategy / "task-0000")
    one = save_and_go_on(config_of(*CARRY, "adapter.reset=never"), folder / strategy, goes_on=True)
    close(torch.tensor(one["losses"]), torch.tensor(before[0]["losses"]))
    assert saved.tensors["slow"].keys() == one["slow"].keys()
    assert saved.tensors["optimizer"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_devices_train_a_base_once_and_both_read_it(shared, folder, strategy):
    alone = base_weights(config_of(*BASE, f"cache_dir={folder / 'alone'}"))
    for own in shared[strategy, "base"]:
        close(own, alone, within=1e-4)
    assert len(list((folder / strategy / "base").glob("*/manifest.json"))) == 1


def test_what_the_first_process_refuses_all_refuse(shared):
    assert shared["ddp", "refuse"] == ("the folder is taken", "the folder is taken")


def typed(*words: str) -> list[str]:
    return [*(o for o in TINY if not o.startswith("task.batch_size")), "task.batch_size=4", *words]


TWO = ("trainer=ddp", "trainer.devices=2")
# Long enough to be stopped on the way.
LONG = [*FAST, "adapter.reset=never", "task.num_tasks=4", "task.steps_per_task=100", "base.seed=5"]


def numbers(content) -> list[float]:
    """All numbers of a JSON file, in order; null is NaN."""
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


def started(folder: Path, *, until: str) -> subprocess.Popen[str]:
    """The command on two devices, once it has come so far."""
    process = start(typed(*LONG, *TWO), folder)
    deadline = time.monotonic() + 150
    while not list(folder.glob(f"outputs/*/*/*/checkpoints/{until}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_interrupted_killed_and_started_again_two_processes_end_where_one_does(tmp_path):
    """Ctrl-C, then kill -9 of all, then the same under torchrun: the results of one process that never stopped."""
    process = started(tmp_path, until="task-0001")
    ranks = processes_of(process.pid)
    assert len(ranks) == 2
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 x cpu, ddp" in out
    # The first process speaks, the others are silent.
    assert (out.count("before the stream"), err.count("\n")) == (1, 2)
    assert not any(is_alive(rank) for rank in ranks)
    folder = only_run(tmp_path)
    assert json.loads((folder / "status.json").read_text())["status"] == "requeue"

    process = started(tmp_path, until="task-0002")
    for pid in (*processes_of(process.pid), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (folder / "results.json").exists()

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    command = [*torchrun, "ttt.cli.run", *typed(*LONG, "trainer=ddp")]
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resuming after task") == 1
    one = tmp_path / "one"
    one.mkdir()
    assert run_here(typed(*LONG, f"cache_dir={one}/cache"), one).code == 0
    same_results(folder, only_run(one))
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
    ("words", "message"),
    [
        (["trainer=dpp"], "trainer=dpp: unknown; did you mean ddp?"),
        (["trainer=ddp", "trainer.devices=two"], "trainer.devices=two: must be auto or a number of at least 1"),
        (["trainer=ddp", "trainer.devices=3"], "task.batch_size=4: must be a multiple of 3, with 3 devices"),
        (["trainer.accumulate=3"], "must be a multiple of 3, with 1 device and trainer.accumulate=3"),
        (["trainer=ddp", "trainer.nodes=2"], "trainer.nodes=2: one command starts processes on its own host only"),
        (["trainer.devices=2"], "trainer.devices=2: with trainer.strategy=single there is 1"),
        (["trainer.strategy=dp"], "trainer.strategy=dp: unknown; did you mean ddp?"),
        (["trainer=ddp", "trainer.devices=2", "model.width=17"], "model.width=17: must be a multiple"),
        (["trainer=fsdp", "trainer.devices=2", "adapter=sgd_fast"], "adapter=sgd_fast reads parameters that are cut"),
        (["eval.tasks=some"], "eval.tasks=some: must be all or a number of at least 1"),
    ],
)
def test_a_wrong_word_is_one_line_and_starts_nothing(tmp_path, words, message):
    adapter = [] if any(word.startswith("adapter=") for word in words) else ["adapter=mlp_fast"]
    outcome = run_here(typed(*adapter, "adapter.chunk=4", *words), tmp_path)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environment", "words", "message"),
    [
        ({"LOCAL_WORLD_SIZE": "2"}, ["trainer=ddp", "trainer.devices=3"], "torchrun started 2; leave it at auto"),
        ({"LOCAL_WORLD_SIZE": "1"}, ["trainer=ddp", "trainer.nodes=3"], "torchrun started 2; leave it at auto"),
        ({"LOCAL_WORLD_SIZE": "2"}, [], "torchrun started 2 processes; type trainer=ddp or fsdp"),
        ({"LOCAL_WORLD_SIZE": "2"}, ["-m", "seed=0,1"], "-m: torchrun started several processes"),
    ],
)
def test_what_contradicts_the_starter_is_refused(tmp_path, monkeypatch, environment, words, message):
    for name, value in ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"} | environment).items():
        monkeypatch.setenv(name, value)
    outcome = run_here(typed(*FAST, *words), tmp_path)
    assert outcome.code == 2
    assert message in outcome.err


def test_slurm_tells_how_many_processes_there_are(monkeypatch):
    told = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_LOCALID": "1"}
    for name, value in told.items():
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
def test_the_verdict_names_who_failed_first(tmp_path, codes, code, status, word):
    folder = RunFolder(tmp_path / "run")
    folder.open()
    # What the first process could still write.
    folder.set_status("failed" if codes[0] == 76 else "requeue", reason="")
    assert torchrun.verdict(codes, folder) == code
    assert folder.status()["status"] == status
    assert word in folder.status()["reason"]


def test_evaluation_grows_with_the_tasks_not_with_their_square():
    from ttt.run.assemble import assemble

    config = config_of("adapter=none", "task.num_tasks=12", "task.held_out=12", "eval.tasks=3", "task.eval_sequences=1")
    assembly = assemble(config, trusted=[])
    rows = [assembly.plan.columns(row, stream=assembly.stream) for row in range(13)]
    assert rows[0] == rows[12] == list(range(12))
    assert rows[1] == [0, 1]
    # The task just learned, the next, and three of those before: the first, the last, one between.
    assert rows[8] == [0, 3, 6, 7, 8]
    assert max(map(len, rows[1:12])) == 5
    thinner = Plan.of(4, stream=assembly.stream, tasks=3)
    counts = [len(thinner.columns(row, stream=assembly.stream)) for row in range(13)]
    assert counts == [12, 2, 2, 2, 5, 2, 2, 2, 5, 2, 2, 2, 12]
    assert [thinner.has_base(row, stream=assembly.stream) for row in range(5)] == [True, False, False, False, True]
