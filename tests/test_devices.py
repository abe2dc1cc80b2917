"""Two devices take the steps of one: each reads its share of every batch (two real gloo processes)."""

from __future__ import annotations

import pytest
import torch
from harness import SMALL
from hydra import compose, initialize_config_module
from lightning.fabric import Fabric
from omegaconf import OmegaConf
from sharing import learn


@pytest.mark.filterwarnings("ignore")
def test_two_processes_learn_what_one_does(tmp_path):
    with initialize_config_module("ttt.conf", version_base="1.3"):
        config = compose("config", overrides=[*SMALL, "adapter=none", "base=none", "task.batch_size=4"])
    resolved = OmegaConf.to_container(config, resolve=True)
    one, two = tmp_path / "one", tmp_path / "two"
    learn(Fabric(accelerator="cpu", devices=1), resolved, str(one))
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(learn, resolved, str(two))
    alone, first, second = (torch.load(path) for path in (f"{one}.0", f"{two}.0", f"{two}.1"))
    # Together the two saw what one sees, row by row.
    assert torch.equal(first["seen"], alone["seen"][:, 0::2])
    assert torch.equal(second["seen"], alone["seen"][:, 1::2])
    assert first["tokens"] == second["tokens"] == alone["tokens"]
    for name, tensor in alone["slow"].items():
        assert torch.equal(first["slow"][name], second["slow"][name])
        torch.testing.assert_close(first["slow"][name], tensor, atol=1e-5, rtol=1e-4)
