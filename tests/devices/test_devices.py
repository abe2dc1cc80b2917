"""Two devices do what one does: two real gloo processes on a CPU, with DDP and with FSDP2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness import FAST
from sharing import STEPS, base_weights, config_of, learn, save_and_go_on, together

from ttt.storage.checkpoint import load

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
# Unlike Adam, SGD shows the size of every gradient: of parameters that are cut, and of the step
# sizes, which are whole.
SHARDED["clipped"] = [*CASES["reset=task"], "optimizer=sgd", "optimizer.lr=1.0", "optimizer.clip=0.05"]
FEW = 4
BASE = (*FAST, "base=pretrain", "base.steps=6", "base.warmup=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def shared(folder):
    """What each of two processes returned, by strategy and case."""
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
    for name, strategy in (("ddp", DDP), ("fsdp", FSDP)):
        (folder / name).mkdir()
        for goes_on in (False, True):
            job = {"config": config_of(*strategy, *CARRY, "adapter.reset=never"), "folder": folder / name}
            jobs[name, f"goes on: {goes_on}"] = ("save_and_go_on", job | {"goes_on": goes_on})
        pretrained = config_of(*strategy, *BASE, f"cache_dir={folder / name}")
        jobs[name, "base"] = ("base_weights", {"config": pretrained})
    jobs["ddp", "refuse"] = ("refuse", {"config": config_of(*DDP, "adapter=none")})
    by_process = together(list(jobs.values()), folder / "returned")
    return dict(zip(jobs, zip(*by_process, strict=True), strict=True))


def close(ours, theirs, *, within: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, atol=within, rtol=within)


def agree(both, alone) -> None:
    for process in both:
        close(torch.tensor(process["losses"]), torch.tensor(alone["losses"]))
        close(process["scores"], alone["scores"])
        close(process["fast"], alone["fast"])
        # Adam's first steps have the size of the rate, whatever the gradient: they show rounding.
        close(process["slow"], alone["slow"], within=1e-4)


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
    if name == "reset=task":
        agree(shared["fsdp", "accumulate"], alone)


def test_half_precision_on_two_devices(shared):
    alone = learn(config_of(*CASES["reset=task"], "trainer.precision=bf16-mixed"), FEW)
    full = learn(config_of(*CASES["reset=task"]), FEW)
    first, second = (torch.tensor(process["losses"]) for process in shared["ddp", "bf16"])
    assert torch.equal(first, second)
    close(first, torch.tensor(alone["losses"]), within=2e-2)
    # It was computed in half precision.
    assert not torch.allclose(first, torch.tensor(full["losses"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_checkpoint_of_two_devices_serves_two_and_one(shared, folder, strategy):
    before, after = shared[strategy, "goes on: False"], shared[strategy, "goes on: True"]
    for first, again in zip(before, after, strict=True):
        assert first["losses"] == again["losses"]
        assert all(torch.equal(x, again["slow"][name]) for name, x in first["slow"].items())
    saved = load(folder / strategy / "task-0000")
    alone = save_and_go_on(config_of(*CARRY, "adapter.reset=never"), folder / strategy, goes_on=True)
    close(torch.tensor(alone["losses"]), torch.tensor(before[0]["losses"]))
    assert saved.tensors["slow"].keys() == alone["slow"].keys()
    assert saved.tensors["optimizer"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_devices_train_a_base_once_and_both_read_it(shared, folder, strategy):
    alone = base_weights(config_of(*BASE, f"cache_dir={folder / 'alone'}"))
    for weights in shared[strategy, "base"]:
        close(weights, alone, within=1e-4)
    assert len(list((folder / strategy / "base").glob("*/manifest.json"))) == 1


def test_what_the_first_process_refuses_all_refuse(shared):
    assert shared["ddp", "refuse"] == ("the folder is taken", "the folder is taken")
