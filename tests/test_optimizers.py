"""Optimizers take the step their papers write."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ttt.bases.pretrain import Pretrain
from ttt.optimizers.adamw import AdamW
from ttt.optimizers.sgd import SGD


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
    assert rates[0] == pytest.approx(0.02)
    assert rates[9] == pytest.approx(0.2 * 0.91)
    assert rates[100] == 0
    assert max(rates) <= 0.2
