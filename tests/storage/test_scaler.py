"""The scaler of 16-mixed goes on from a checkpoint, and a run begins with a new one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ttt.devices.one_device import OneDevice
from ttt.devices.scaler import restart_scaler, restore_scaler, scaler_tensors
from ttt.storage.checkpoint import Checkpoint, load, save


def fabric():
    """What this room reads of Fabric under 16-mixed; a CPU has no fp16, but it has the scaler."""
    scaler = torch.amp.GradScaler("cpu", growth_interval=3)
    strategy = SimpleNamespace(precision=SimpleNamespace(scaler=scaler))
    return SimpleNamespace(strategy=strategy, device=torch.device("cpu"))


def train(there, weights, gradients):
    """Step with these unscaled gradients; return the scale before each step."""
    scaler, optimizer = there.strategy.precision.scaler, torch.optim.SGD([weights], lr=0.1)
    scales = []
    for gradient in gradients:
        scales.append(scaler.scale(torch.ones(())).item())
        optimizer.zero_grad()
        scaler.scale((weights * gradient).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    return scales


GRADIENTS = [1.0, float("inf"), 0.5, 2.0, 1.0, 1.0, float("inf"), 1.0, 1.0, 1.0, 3.0]


@pytest.mark.parametrize("stop", range(1, len(GRADIENTS)))
def test_a_scaler_goes_on_from_a_checkpoint(stop, tmp_path):
    whole, weights = fabric(), nn.Parameter(torch.ones(2))
    scales = train(whole, weights, GRADIENTS)
    first, part = fabric(), nn.Parameter(torch.ones(2))
    before = train(first, part, GRADIENTS[:stop])
    save(tmp_path / "task-0000", Checkpoint({"scaler": scaler_tensors(first)}, {}))
    second = fabric()
    restore_scaler(second, load(tmp_path / "task-0000").tensors["scaler"])
    assert before + train(second, part, GRADIENTS[stop:]) == scales
    assert torch.equal(part, weights)
    assert scaler_tensors(second) == scaler_tensors(whole)
    assert len(set(scales)) == 2


def test_a_run_begins_with_a_new_scaler():
    there = fabric()
    train(there, nn.Parameter(torch.ones(2)), GRADIENTS)
    restart_scaler(there)
    assert there.strategy.precision.scaler.state_dict() == torch.amp.GradScaler("cpu").state_dict()


def test_other_precisions_have_none():
    plain = OneDevice(torch.device("cpu"), precision="32-true")
    restart_scaler(plain)
    restore_scaler(plain, {})
    assert scaler_tensors(plain) == {}
