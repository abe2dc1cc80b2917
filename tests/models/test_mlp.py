"""The plain MLP on vectors against its definition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from assembling import assembled
from vectors import VECTORS

from ttt.training.train import loss_of


def test_the_mlp_is_what_one_would_write():
    assembly = assembled(*VECTORS)
    batch, model = assembly.stream.tasks[0].batch(0), assembly.learner.model
    first, second = model.layers
    x = batch.tokens_BT[:, 0]
    expected = model.head(torch.relu(second(torch.relu(first(x)))))
    torch.testing.assert_close(model(batch.tokens_BT)[:, 0], expected)
    loss = loss_of(assembly.learner, assembly.recipe, batch, step=0)
    torch.testing.assert_close(loss, F.cross_entropy(expected, batch.targets_BT[:, 0]))


def test_several_examples_in_a_row_do_not_see_each_other():
    assembly = assembled(*VECTORS, "task.examples=4")
    batch, model = assembly.stream.tasks[0].batch(0), assembly.learner.model
    assert batch.tokens_BT.shape == (16, 4, 64)
    changed = batch.tokens_BT.clone()
    changed[:, 3] += 1
    torch.testing.assert_close(model(changed)[:, :3], model(batch.tokens_BT)[:, :3])
