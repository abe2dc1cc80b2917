"""Sharded checkpoints: two gloo processes write their shares, and any number goes on from them."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
import torch
from commands import assert_refused
from harness import FAST, TINY, run_here
from safetensors.torch import load_file, save_file
from save_trouble import NAME, die_in_save, fill_disk
from sharing import config_of, save_and_go_on, together

from ttt.storage.checkpoint import load, load_newest
from ttt.storage.files import remove_unfinished

# One process makes the costly fixture once.
pytestmark = pytest.mark.xdist_group("devices")

# A state that outlives sequences, and a width that two devices cannot share evenly.
CARRY = (*FAST, "adapter.step=0.5", "adapter.reset=never")
FSDP = ("trainer=fsdp", *CARRY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shares")


@pytest.fixture(scope="module")
def shared(folder):
    """What each of two processes returned: of a run that never stopped, and of those that went on."""
    jobs = {}
    for form in ("whole", "sharded"):
        (folder / form).mkdir()
        for goes_on in (False, True):
            config = config_of(*FSDP, f"trainer.checkpoint={form}")
            job = {"config": config, "folder": folder / form, "goes_on": goes_on}
            jobs[form, goes_on] = ("save_and_go_on", job)
    (folder / "full").mkdir()
    jobs["full"] = (fill_disk, {"config": config_of(*FSDP), "folder": folder / "full"})
    by_process = together(list(jobs.values()), folder / "returned")
    return dict(zip(jobs, zip(*by_process, strict=True), strict=True))


@pytest.fixture
def saved(shared, folder, tmp_path) -> Path:
    """A folder with a checkpoint of two processes, and a newer one like it."""
    for name in (NAME, "task-0001"):
        shutil.copytree(folder / "sharded" / NAME, tmp_path / name)
    shutil.copy(folder / "sharded" / "history.jsonl", tmp_path)
    return tmp_path


def test_both_forms_hold_the_same_numbers(shared, folder):
    whole, sharded = (load(folder / form / NAME) for form in ("whole", "sharded"))
    assert whole.tensors.keys() == sharded.tensors.keys()
    for group, tensors in whole.tensors.items():
        assert tensors.keys() == sharded.tensors[group].keys()
        assert all(torch.equal(x, sharded.tensors[group][name]) for name, x in tensors.items())
    names = sorted(path.name for path in (folder / "sharded" / NAME).glob("*.safetensors"))
    assert [name[:11] for name in names] == ["shard-00001", "shard-00002"]
    # Each wrote about its half of what both learn.
    halves = [numbers(load_file(folder / "sharded" / NAME / name), of="slow/") for name in names]
    assert max(halves) < 0.6 * numbers(whole.tensors["slow"])


def numbers(tensors, *, of: str = "") -> int:
    return sum(x.numel() for name, x in tensors.items() if name.startswith(of))


def test_a_run_that_goes_on_ends_where_it_would_have_ended(shared, folder):
    unbroken = shared["whole", False]
    for form in ("whole", "sharded"):
        for first, again in zip(unbroken, shared[form, True], strict=True):
            assert first["losses"] == again["losses"]
            assert all(torch.equal(x, again["slow"][name]) for name, x in first["slow"].items())
    alone = save_and_go_on(config_of(*CARRY), folder / "sharded", goes_on=True)
    assert alone["losses"] == pytest.approx(unbroken[0]["losses"], abs=1e-5)
    assert all(x.device.type == "cpu" for x in alone["slow"].values())


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", ["flipped", "cut", "gone"])
def test_a_damaged_share_is_noticed_and_the_checkpoint_before_counts(saved, number, kind):
    (file,) = (saved / "task-0001").glob(f"shard-{number:05d}-*")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.unlink()
    if kind != "gone":
        file.write_bytes(data if kind == "flipped" else data[:-3])
    newest, complaints = load_newest(saved)
    assert str(file) in complaints[0]
    assert torch.equal(
        newest.tensors["slow"]["embed_tokens.weight"], load(saved / NAME).tensors["slow"]["embed_tokens.weight"]
    )


def test_what_is_not_in_the_manifest_is_not_read(saved):
    save_file({"slow/embed": torch.ones(2)}, saved / "task-0001" / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        load(saved / "task-0001")


def test_a_full_disk_of_one_process_is_heard_of_by_all_and_leaves_nothing(shared, folder):
    assert shared["full"] == (errno.ENOSPC, errno.ENOSPC)
    assert not list((folder / "full").iterdir())


def test_a_process_that_is_killed_in_a_save_leaves_the_checkpoint_before(tmp_path):
    jobs = [(die_in_save, {"config": config_of(*FSDP), "folder": tmp_path})]
    with pytest.raises(AssertionError):
        together(jobs, tmp_path / "returned")
    assert list(tmp_path.glob(".task-0001.*"))
    remove_unfinished(tmp_path)
    newest, complaints = load_newest(tmp_path)
    assert (newest.state["number"], complaints) == (0, [])
    assert not list(tmp_path.glob(".task-*"))


def test_only_what_is_cut_can_be_sharded(tmp_path):
    outcome = run_here([*TINY, "trainer.checkpoint=sharded"], tmp_path)
    assert_refused(outcome, "trainer.checkpoint=sharded", "trainer.strategy=single", "whole")
