"""Optimizers take the step their papers write."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from ttt.bases.pretrain import Pretrain
from ttt.optimizers.adafactor import Adafactor
from ttt.optimizers.adamw import AdamW
from ttt.optimizers.muon import Muon
from ttt.optimizers.sgd import SGD
from ttt.storage.checkpoint import optimizer_tensors, restore_optimizer


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[1.0, -2.0]]))
        self.scale = nn.Parameter(torch.tensor([3.0]))

    def loss(self) -> torch.Tensor:
        return (self.matrix * torch.tensor([[2.0, 0.5]])).sum() + 4 * self.scale.sum()


def one_step(factory) -> Two:
    model = Two()
    optimizer = factory.build(model)
    model.loss().backward()
    optimizer.step()
    return model


def test_adamw_by_hand():
    """The first step is lr * sign(gradient); decay acts on matrices only."""
    model = one_step(AdamW(name="adamw", lr=0.1, beta1=0.9, beta2=0.95, weight_decay=0.5, clip=None))
    expected = torch.tensor([[1.0, -2.0]]) * (1 - 0.1 * 0.5) - 0.1
    torch.testing.assert_close(model.matrix.data, expected)
    torch.testing.assert_close(model.scale.data, torch.tensor([2.9]))


def test_sgd_by_hand():
    model = one_step(SGD(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.5, clip=None))
    expected = torch.tensor([[1.0 - 0.1 * (2.0 + 0.5), -2.0 - 0.1 * (0.5 - 1.0)]])
    torch.testing.assert_close(model.matrix.data, expected)
    torch.testing.assert_close(model.scale.data, torch.tensor([2.6]))


def test_the_base_warms_up_and_decays_to_zero():
    base = Pretrain(name="pretrain", seed=0, steps=100, lr=0.2, warmup=10, weight_decay=0.0, clip=1.0)
    rates = [base.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(0.91)
    assert rates[100] == 0
    assert max(rates) <= 1


class Stack(nn.Module):
    """An embedding, two hidden matrices in blocks, a scale: what muon tells apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(5, 6)
        self.layers = nn.ModuleList([nn.Linear(6, 6, bias=False), nn.Linear(6, 6)])
        self.scale = nn.Parameter(torch.ones(()))

    def loss(self) -> torch.Tensor:
        x = self.embedding(torch.arange(5))
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return (self.scale * x).square().sum()


def muon(**changed):
    arguments = {"lr": 0.02, "momentum": 0.95, "adamw_lr": 0.01, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.0}
    return Muon(name="muon", clip=None, **(arguments | changed))


def test_muon_takes_orthogonal_steps_on_hidden_matrices_and_adamw_steps_on_the_rest():
    model = Stack()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = muon().build(model)
    model.loss().backward()
    optimizer.step()
    step = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name in ("layers.0.weight", "layers.1.weight"):
        # All directions of the gradient are taken equally far: Newton-Schulz brings singular values near one.
        spectrum = torch.linalg.svdvals(step[name])
        assert spectrum.max() / spectrum[:5].min() < 2
        assert spectrum.max() == pytest.approx(0.02 * 0.2 * 6**0.5, rel=0.3)
    # The first step of Adam is the sign of the gradient.
    torch.testing.assert_close(step["scale"].abs(), torch.tensor(0.01))
    torch.testing.assert_close(step["layers.1.bias"].abs(), torch.full((6,), 0.01))


def test_a_joined_optimizer_goes_on_from_its_state():
    one, two = Stack(), Stack()
    first, second = muon().build(one), muon().build(two)
    for _ in range(3):
        first.zero_grad()
        one.loss().backward()
        first.step()
    two.load_state_dict(one.state_dict())
    saved = {name: x.clone() for name, x in optimizer_tensors(first, list(one.parameters())).items()}
    restore_optimizer(second, saved, list(two.parameters()))
    for model, optimizer in ((one, first), (two, second)):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name
    # A rate that is set on the whole reaches the parts.
    still = {name: p.detach().clone() for name, p in two.named_parameters()}
    for group in second.param_groups:
        group["lr"] = 0.0
    second.step()
    assert all(torch.equal(p, still[name]) for name, p in two.named_parameters())


def test_adafactor_keeps_rows_and_columns_and_moves_by_a_share_of_the_weight():
    model = Stack()
    before = model.layers[0].weight.detach().clone()
    optimizer = Adafactor(
        name="adafactor", lr=0.1, beta2_decay=-0.8, update_clip=1.0, weight_decay=0.0, clip=None
    ).build(model)
    model.loss().backward()
    optimizer.step()
    state = optimizer.state[model.layers[0].weight]
    assert sum(x.numel() for name, x in state.items() if name != "step") == 6 + 6
    rms = (model.layers[0].weight.detach() - before).square().mean().sqrt()
    # lr times the weight's own size, times an update of root mean square at most 1.
    assert 0 < rms <= 0.1 * before.square().mean().sqrt() * 1.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: muon(momentum=1.0), "optimizer.momentum=1: must lie in [0, 1)"),
        (lambda: muon(adamw_lr=0.0), "optimizer.adamw_lr=0: must be above 0"),
        (lambda: muon(adamw_lr=float("nan")), "optimizer.adamw_lr=nan: must be above 0"),
        (lambda: muon().build(nn.Linear(2, 2)), "optimizer=muon: the model has no hidden matrices"),
    ],
)
def test_wrong_words(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
