"""Steps without torch's compiler: the same weights to the last bit, and nothing of it is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from harness import FAST, TINY
from torch import nn
from torch.optim import Optimizer

from ttt.optimizers import eager
from ttt.optimizers.adafactor import Adafactor
from ttt.optimizers.adam import Adam
from ttt.optimizers.adamw import AdamW
from ttt.optimizers.eager import NOTE, take_step, uncompiled
from ttt.optimizers.muon import Muon
from ttt.optimizers.sgd import SGD

NOT_LOADED = """
import sys
from ttt.cli.run import main
try:
    main()
finally:
    print("LOADED", sorted({"torch._dynamo", "sympy", "scipy.stats", "datasets", "pandas"} & set(sys.modules)))
"""


RATES = {"name": "", "lr": 0.1, "clip": None}
FACTORIES = [
    SGD(**RATES, momentum=0.9, weight_decay=0.5),
    Adam(**RATES, beta1=0.9, beta2=0.999),
    AdamW(**RATES, beta1=0.9, beta2=0.95, weight_decay=0.5),
    Adafactor(**RATES, beta2_decay=-0.8, update_clip=1.0, weight_decay=0.5),
    Muon(**RATES, momentum=0.95, adamw_lr=0.01, beta1=0.9, beta2=0.95, weight_decay=0.1),
]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.layers = nn.Embedding(5, 6), nn.ModuleList([nn.Linear(6, 6)])

    def loss(self) -> torch.Tensor:
        return self.layers[0](self.embedding(torch.arange(5))).square().sum()


def trained(factory, step):
    """The weights after four steps."""
    model = Small()
    optimizer = factory.build(model)
    for k in range(4):
        (model.loss() * (k + 1)).backward()
        step(optimizer)
        optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: type(factory).__name__)
def test_steps_are_those_of_torch(factory, monkeypatch):
    expected = trained(factory, lambda optimizer: optimizer.step())
    # In this process the compiler may be loaded already.
    monkeypatch.setattr(eager, "COMPILER", "a name that is not loaded")
    with uncompiled():
        assert torch.equal(trained(factory, take_step), expected)


def test_hooks_and_steps_of_the_users_own_are_taken(monkeypatch):
    monkeypatch.setattr(eager, "COMPILER", "a name that is not loaded")
    calls = []

    class Mine(torch.optim.SGD):
        def step(self, closure=None):
            calls.append("mine")
            return super().step(closure)

    hooked = torch.optim.SGD(Small().parameters(), lr=0.1)
    hooked.register_step_post_hook(lambda *arguments: calls.append("hook"))
    for optimizer in (hooked, Mine(Small().parameters(), lr=0.1)):
        take_step(optimizer)
    assert calls == ["hook", "mine"]


def test_methods_are_as_they_were_afterwards(monkeypatch):
    monkeypatch.setattr(eager, "COMPILER", "a name that is not loaded")
    method = Optimizer.zero_grad.__wrapped__
    monkeypatch.delattr(method, NOTE, raising=False)
    with uncompiled():
        with uncompiled():
            assert getattr(method, NOTE) is method
        assert getattr(method, NOTE) is method
    assert not hasattr(method, NOTE)


def test_a_run_loads_no_compiler(tmp_path):
    command = [sys.executable, "-c", NOT_LOADED, *TINY, *FAST]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "LOADED []" in done.stdout, done.stdout + done.stderr
