"""Optimizers take the steps that their papers write down."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ttt.bases.pretrain import Pretrain
from ttt.config.build import build
from ttt.optimizers.adafactor import Adafactor
from ttt.optimizers.adam import Adam
from ttt.optimizers.adamw import AdamW
from ttt.optimizers.muon import Muon
from ttt.optimizers.sgd import SGD
from ttt.storage.checkpoint import optimizer_tensors, restore_optimizer


class Two(nn.Module):
    """A matrix and a vector with constant gradients."""

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


def test_the_first_step_of_adam_is_the_sign_of_the_gradient_and_adamw_decays_matrices_only():
    start = torch.tensor([[1.0, -2.0]])
    for factory, expected in (
        (Adam(name="adam", lr=0.1, beta1=0.9, beta2=0.999, clip=None), start - 0.1),
        (
            AdamW(name="adamw", lr=0.1, beta1=0.9, beta2=0.95, weight_decay=0.5, clip=None),
            start * (1 - 0.1 * 0.5) - 0.1,
        ),
    ):
        model = one_step(factory)
        torch.testing.assert_close(model.matrix.data, expected)
        torch.testing.assert_close(model.scale.data, torch.tensor([2.9]))


def test_sgd_by_hand():
    model = one_step(SGD(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.5, clip=None))
    expected = torch.tensor([[1.0 - 0.1 * (2.0 + 0.5), -2.0 - 0.1 * (0.5 - 1.0)]])
    torch.testing.assert_close(model.matrix.data, expected)
    torch.testing.assert_close(model.scale.data, torch.tensor([2.6]))


def test_the_base_warms_up_and_decays_to_zero():
    plain = {"reset": "sequence", "lifetime": 30, "until": None}
    base = Pretrain(name="pretrain", seed=0, steps=100, lr=0.2, warmup=10, weight_decay=0.0, clip=1.0, **plain)
    rates = [base.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(0.91)
    assert rates[100] == 0
    assert max(rates) <= 1


class Stack(nn.Module):
    """An embedding, two hidden matrices in blocks, and a scale: muon treats the matrices
    differently."""

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


MUON = {
    "name": "muon", "lr": 0.02, "momentum": 0.95, "adamw_lr": 0.01, "beta1": 0.9, "beta2": 0.95,
    "weight_decay": 0.0, "clip": None,
}  # fmt: skip


def test_muon_takes_orthogonal_steps_on_hidden_matrices_and_adamw_steps_on_the_rest():
    model = Stack()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Muon(**MUON).build(model)
    model.loss().backward()
    optimizer.step()
    step = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name in ("layers.0.weight", "layers.1.weight"):
        # Newton-Schulz brings all singular values near one, so that no direction of the gradient
        # dominates.
        spectrum = torch.linalg.svdvals(step[name])
        assert spectrum.max() / spectrum[:5].min() < 2
        assert spectrum.max() == pytest.approx(0.02 * 0.2 * 6**0.5, rel=0.3)
    torch.testing.assert_close(step["scale"].abs(), torch.tensor(0.01))
    torch.testing.assert_close(step["layers.1.bias"].abs(), torch.full((6,), 0.01))


def test_a_joined_optimizer_continues_from_its_state():
    original, restored = Stack(), Stack()
    first, second = Muon(**MUON).build(original), Muon(**MUON).build(restored)
    for _ in range(3):
        first.zero_grad()
        original.loss().backward()
        first.step()
    restored.load_state_dict(original.state_dict())
    saved = {name: x.clone() for name, x in optimizer_tensors(first, list(original.parameters())).items()}
    restore_optimizer(second, saved, list(restored.parameters()))
    for model, optimizer in ((original, first), (restored, second)):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, restored.state_dict()[name]), name
    # A rate that is set on the whole reaches the parts.
    still = {name: p.detach().clone() for name, p in restored.named_parameters()}
    for group in second.param_groups:
        group["lr"] = 0.0
    second.step()
    assert all(torch.equal(p, still[name]) for name, p in restored.named_parameters())


def test_adafactor_keeps_a_row_and_a_column_and_moves_by_a_share_of_the_weight():
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


NAN = float("nan")


@pytest.mark.parametrize(
    ("target", "argument", "value"),
    [
        ("muon.Muon", "momentum", 1.0),
        ("muon.Muon", "adamw_lr", 0.0),
        ("muon.Muon", "adamw_lr", NAN),
        ("muon.Muon", "beta2", -0.1),
        ("muon.Muon", "weight_decay", -1.0),
        ("muon.Muon", "clip", 0.0),
        ("adafactor.Adafactor", "beta2_decay", 0.5),
        ("adafactor.Adafactor", "update_clip", 0.9),
    ],
)
def test_an_argument_out_of_its_bounds_is_refused_by_name_and_value(target, argument, value):
    arguments = {
        "name": "adafactor",
        "lr": 0.1,
        "beta2_decay": -0.8,
        "update_clip": 1.0,
        "weight_decay": 0.0,
        "clip": None,
    }
    arguments = (MUON if target == "muon.Muon" else arguments) | {"_target_": f"ttt.optimizers.{target}"}
    build(arguments, group="optimizer", given={}, trusted=[])
    with pytest.raises(ValueError, match=r"^optimizer\.") as error:
        build(arguments | {argument: value}, group="optimizer", given={}, trusted=[])
    assert str(error.value).startswith(f"optimizer.{argument}={value}: must be ")


def test_muon_refuses_a_model_without_hidden_matrices():
    with pytest.raises(ValueError, match="optimizer=muon: "):
        Muon(**MUON).build(nn.Linear(2, 2))
