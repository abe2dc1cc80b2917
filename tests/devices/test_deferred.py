"""Weights that get their numbers after they were cut: the numbers of a model that was built whole."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from assembling import assembled, last_of
from harness import FAST, SMALL
from peaks import built
from sharing import config_of, together
from torch import nn

from ttt.devices.deferred import Deferred, NotDeferrableError
from ttt.devices.shards import give_memory

# One process makes the costly fixture once.
pytestmark = pytest.mark.xdist_group("devices")

FSDP = ("trainer=fsdp", "trainer.devices=2")
CASES = {
    "none": ["adapter=none"],
    "mlp_fast": FAST,
    "mlp_fast, next token": [*FAST, "adapter.target=next"],
    "delta_fast": ["adapter=delta_fast"],
    "titans_fast": ["adapter=titans_fast", "adapter.chunk=4"],
}
# 13 M numbers: 52 MB.
LARGE = ("adapter=none", "model.width=512", "model.heads=8", "model.mlp_width=1024", "model.layers=5")
MEGABYTES = 52


def materialised(module: nn.Module, deferred: Deferred) -> nn.Module:
    give_memory(module, torch.device("cpu"))
    deferred.fill(module)
    return module


@pytest.mark.parametrize("name", CASES)
def test_numbers_and_chance_are_those_of_a_model_that_was_built_whole(name):
    whole = assembled(*last_of(*SMALL, "base=none", *CASES[name])).learner
    chance = torch.get_rng_state()
    learner = assembled(*last_of(*SMALL, "base=none", *CASES[name], *FSDP)).learner
    assert sum(x.numel() for x in learner.parameters() if x.is_meta) > 0.9 * sum(x.numel() for x in whole.parameters())
    materialised(learner.model, learner.deferred)
    assert torch.equal(chance, torch.get_rng_state())
    numbers = dict(learner.named_parameters())
    for key, parameter in whole.named_parameters():
        assert torch.equal(parameter, numbers[key]), key
        assert parameter.requires_grad == numbers[key].requires_grad


class Odd(nn.Module):
    """Buffers, views, tensors computed from others, and a shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(6, 4, bias=False)
        nn.init.orthogonal_(self.first.weight)
        with torch.no_grad():
            self.first.weight[1:3].mul_(2.0)
            self.first.weight.t()[0].copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        self.second.weight = self.first.weight
        self.register_buffer("turns", 1.0 / 10.0 ** (torch.arange(0, 8, 2).float() / 8))
        self.square = nn.Parameter(torch.randn(3, 3) * 0.5 + torch.eye(3))
        self.drawn = nn.Parameter(torch.randn(4, generator=torch.Generator().manual_seed(5)))


def test_operations_of_every_kind_are_done_again():
    torch.manual_seed(9)
    whole, chance = Odd(), torch.get_rng_state()
    deferred = Deferred(9)
    with deferred.building():
        odd = Odd()
    deferred.close(odd)
    torch.manual_seed(1)
    materialised(odd, deferred)
    assert odd.first.weight is odd.second.weight
    assert torch.equal(chance, torch.get_rng_state())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, odd.state_dict()[name]), name


class Leaves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.zeros(3)


class Draws(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0, 0.0]))
        nn.init.normal_(self.weight)


@pytest.mark.parametrize("kind", [Leaves, Draws])
def test_what_cannot_be_done_later_is_noticed(kind):
    deferred = Deferred(0)

    def build() -> None:
        with deferred.building():
            module = kind()
        deferred.close(module)

    with pytest.raises(NotDeferrableError):
        build()


def test_a_model_that_looks_at_its_numbers_is_built_whole():
    def looks(*args, **kwargs):
        model = nn.Embedding(5, 4)
        # It draws until all numbers lie inside two bounds.
        nn.init.trunc_normal_(model.weight)
        return model

    with mock.patch("ttt.run.parts.build_model", looks), mock.patch("ttt.run.parts.learn_only"):
        learner = assembled(*last_of(*SMALL, "base=none", "adapter=none", *FSDP)).learner
    assert learner.deferred is None
    assert not any(x.is_meta for x in learner.parameters())


def test_a_process_holds_its_share_alone(tmp_path: Path):
    config = config_of("trainer=fsdp", *LARGE)
    # In processes of their own: what one way has freed, the other would take again.
    ways = [
        together([(built, {"config": config, "deferred": way})], tmp_path / f"returned-{way}") for way in (True, False)
    ]
    for (deferred,), (whole,) in zip(*ways, strict=True):
        assert whole["hash"] == deferred["hash"]
        # Its half, and the embedding or a layer on its way.
        assert deferred["peak"] < 0.8 * MEGABYTES < MEGABYTES < whole["peak"]
