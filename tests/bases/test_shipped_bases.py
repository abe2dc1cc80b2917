"""The base that comes with ttt: taken where it fits, and never where the code or the file changed."""

from __future__ import annotations

import shutil

import pytest
import torch
from assembling import assembled

from ttt.bases import shipped
from ttt.models.nano import Nano
from ttt.results.events import Outdated
from ttt.storage.checkpoint import load

DEMO = ("experiment=fst-demo", "logger=none", "trainer.threads=1")


class TrainsError(Exception):
    """The base is trained, which takes minutes."""


def refuse(event):
    raise TrainsError(type(event).__name__)


def weights_of(assembly):
    return assembly.base_weights(assembly.settings.fabric(), refuse)


@pytest.mark.parametrize("arm", [("adapter=none",), ("adapter.proposer=informed",), ("adapter=soft_prompt",)])
def test_every_arm_of_the_demonstration_begins_from_it(arm, tmp_path):
    assembly = assembled(*DEMO, *arm, f"cache_dir={tmp_path}")
    weights = weights_of(assembly)
    saved = load(shipped.WEIGHTS / assembly.base_content)
    assert weights.keys() == saved.tensors["slow"].keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in saved.tensors["slow"].items())
    # What the run records of it.
    assert assembly.base.record["held_out_loss"] == saved.state["held_out_loss"]
    # The cache has it now, under its usual name.
    assert (tmp_path / "base" / assembly.base_id).is_dir()


def test_other_settings_have_no_such_base(tmp_path):
    for other in ("base.seed=31", "base.steps=4001", "model.width=32", "trainer.precision=bf16-mixed"):
        assembly = assembled(*DEMO, other, f"cache_dir={tmp_path}")
        assert not (shipped.WEIGHTS / assembly.base_content).exists()


def test_changed_code_of_the_model_does_not_take_it(tmp_path, monkeypatch):
    forward = Nano.forward
    monkeypatch.setattr(Nano, "forward", lambda self, *words, **names: 1.1 * forward(self, *words, **names))
    with pytest.raises(TrainsError, match=Outdated.__name__):
        weights_of(assembled(*DEMO, f"cache_dir={tmp_path}"))


def test_a_damaged_file_is_not_taken(tmp_path, monkeypatch):
    shutil.copytree(shipped.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    (file,) = (tmp_path / "weights").glob("*/slow.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(TrainsError, match=Outdated.__name__):
        weights_of(assembled(*DEMO, f"cache_dir={tmp_path}"))
