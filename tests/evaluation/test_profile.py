"""The loss along the context: pieces that hold every token once and add up to the whole."""

from __future__ import annotations

import math

import pytest
import torch
from assembling import assembled
from learning import engine_of
from settings import MLP, NANO

from ttt.evaluation.evaluate import evaluate_along
from ttt.evaluation.tally import tally, tally_along


def test_a_profile_adds_up_to_the_loss():
    assembly = assembled(*NANO)
    batches = [task.evaluation() for task in assembly.stream.tasks]
    scores, pieces = evaluate_along(engine_of(assembly), batches, recipe=assembly.recipe)
    assert len(pieces) == 3
    for j, batch in enumerate(batches):
        counts = tally_along(torch.zeros(batch.targets_BT.shape), batch.targets_BT * 0, batch.targets_BT >= 0)[:, 2]
        scored = [(x, n) for x, n in zip(pieces[j], counts.tolist(), strict=True) if n]
        assert all(math.isnan(x) == (n == 0) for x, n in zip(pieces[j], counts.tolist(), strict=True))
        assert sum(x * n for x, n in scored) / sum(n for _, n in scored) == pytest.approx(scores["fast"]["loss"][j])
    # A model without fast weights reads no context.
    plain = assembled(*MLP)
    batches = [plain.stream.tasks[0].evaluation()]
    assert evaluate_along(engine_of(plain), batches, recipe=plain.recipe)[1] is None


@pytest.mark.parametrize("length", [1, 7, 16, 50])
def test_pieces_of_a_context_hold_every_token_once(length):
    generator = torch.Generator().manual_seed(length)
    nats, scored = torch.rand(3, length, generator=generator), torch.rand(3, length, generator=generator) > 0.3
    hits = nats > 0.5
    pieces = tally_along(nats, hits, scored)
    assert pieces.shape == (16, 3)
    assert torch.allclose(pieces.sum(0), tally(nats, hits, scored)[0])
    assert int((pieces[:, 2] > 0).sum()) <= min(length, 16)
