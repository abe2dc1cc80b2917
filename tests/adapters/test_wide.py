"""`adapter=wide`: as large as a model with fast weights, and the same functions as a wider model."""

from __future__ import annotations

import re

import pytest
import torch
from families import SIZES, saved_family
from tiny_adapters import LENGTH, VOCAB, batch_of, build_adapter, tokens
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ttt.adapters.footing import Flops, match
from ttt.adapters.wide import Wide, widen
from ttt.learner import Learner
from ttt.models.gated import gated_mlps
from ttt.models.hf import HfModel
from ttt.models.nano import Nano

HIDDEN, WIDTH = 24, 16


def nano(hidden=HIDDEN):
    torch.manual_seed(0)
    return Nano(
        name="nano", vocab_size=VOCAB, seq_len=LENGTH, layers=2, width=WIDTH, heads=2, mlp_width=hidden,
        window=5, rope_base=10000.0,
    )  # fmt: skip


def tiny(family, folder):
    settings = {"revision": None, "dtype": "float32", "attention": "auto", "window": None, "cache_dir": "."}
    folder = saved_family(family, folder)
    return HfModel(name=str(folder), vocab_size=SIZES["vocab_size"], seq_len=64, **settings).eval()


def wide(width=None, equal=None, like=None):
    return Wide(name="wide", seq_len=LENGTH, width=width, equal=equal, like=like)


def size(model):
    return sum(p.numel() for p in model.parameters())


def flops(model):
    """Of a training step on one sequence, by torch's own counter and a formula that it lacks."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: added_in_place}) as counter:
        model(tokens(1, rows=1)).float().logsumexp(-1).sum().backward()
    return counter.get_total_flops()


def added_in_place(into, a_BXY, b_BYZ, *, out_shape=None):
    return 2 * a_BXY[0] * a_BXY[1] * a_BXY[2] * b_BYZ[2]


def into_wider(narrow, wider):
    """Copy the weights of a model with `wide` into one whose MLPs have as many units."""
    plain = {name: x for name, x in narrow.state_dict().items() if ".mlp." not in name}
    for mlp in gated_mlps(wider):
        old = narrow.get_submodule(mlp.name)
        for name in (*mlp.into, mlp.down_name):
            parts = [old.get_submodule(name).weight, old.wide.get_submodule(name).weight]
            plain[f"{mlp.name}.{name}.weight"] = torch.cat(parts, 1 if name == mlp.down_name else 0)
    wider.load_state_dict(plain)


def test_the_same_functions_as_a_wider_model():
    narrow, wider, more = nano(), nano(HIDDEN + 7), wide(width=7)
    more.attach(narrow)
    assert size(narrow) == size(wider)
    torch.testing.assert_close(flops(narrow), flops(wider), rtol=0, atol=0)
    with torch.no_grad():
        for parameter in narrow.parameters():
            parameter.normal_(std=0.2)
    into_wider(narrow, wider)
    torch.testing.assert_close(narrow(tokens(1)), wider(tokens(1)), rtol=1e-4, atol=1e-5)


def test_silent_at_first_and_spread_like_the_models_own():
    plain, model = nano(), nano()
    wide(width=400).attach(model)
    assert torch.equal(model(tokens(1)), plain(tokens(1)))
    mlp = model.layers[0].mlp
    assert not mlp.wide.down_proj.weight.any()
    torch.testing.assert_close(mlp.wide.gate_proj.weight.std(), mlp.gate_proj.weight.std(), rtol=0.1, atol=0)
    model(tokens(1)).logsumexp(-1).sum().backward()
    assert mlp.wide.down_proj.weight.grad.any()


@pytest.mark.parametrize("like", ["mlp_fast", "delta_fast", "lact_fast"])
def test_as_many_parameters(like):
    fast, model = nano(), nano()
    build_adapter(like).attach(fast)
    wide(equal="parameters", like=build_adapter(like)).attach(model)
    # Half a unit in each of two MLPs is the most by which rounding can miss.
    assert abs(size(model) - size(fast)) <= 3 * WIDTH


@pytest.mark.parametrize("like", ["mlp_fast", "delta_fast"])
def test_as_many_operations(like):
    fast, model = nano(), nano()
    learner = Learner(fast, adapter=build_adapter(like), optimizer=None)
    wide(equal="flops", like=build_adapter(like)).attach(model)
    wanted = flops(lambda x_BT: learner(batch_of(x_BT), learner.adapter.initial())[0])
    # Half a unit in each of two MLPs; each weight takes two operations forward and four backward.
    assert abs(flops(model) - wanted) / LENGTH <= 6 * 3 * WIDTH
    assert wanted > 1.1 * flops(nano())


@torch.no_grad()
def test_products_that_are_added_in_place_are_operations_too():
    a_BXY, b_BYZ, into_BXZ = torch.ones(2, 3, 4), torch.ones(2, 4, 5), torch.zeros(2, 3, 5)
    for product in (torch.bmm, into_BXZ.baddbmm, into_BXZ.baddbmm_):
        with Flops() as counter:
            product(a_BXY, b_BYZ)
        assert counter.flops == 2 * 2 * 3 * 4 * 5


def test_steps_inside_a_step_are_operations_too():
    """A step of sgd_fast takes a backward pass of its own, which torch's counter refuses."""
    footing = match(nano(), build_adapter("sgd_fast"), equal="flops", widen=widen, length=LENGTH)
    assert footing.wanted.parameters == 1
    assert footing.wanted.flops > 0.5 * flops(nano()) / LENGTH
    assert abs(footing.added.flops - footing.wanted.flops) <= 6 * 3 * WIDTH


def test_counting_leaves_the_model_and_random_numbers_alone():
    model, state = nano(), torch.get_rng_state()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    match(model, build_adapter("lora_fast"), equal="flops", widen=widen, length=LENGTH)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(dict(model.named_parameters())) == set(before)
    for name, x in before.items():
        assert torch.equal(model.get_parameter(name), x)
        assert model.get_parameter(name).grad is None


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_a_pretrained_model(tmp_path, family):
    plain, model = tiny(family, tmp_path), tiny(family, tmp_path)
    wide(equal="parameters", like=build_adapter("delta_fast")).attach(model)
    x_BT = 3 + tokens(1)
    assert torch.equal(model(x_BT), plain(x_BT))
    added = size(model) - size(plain)
    build_adapter("delta_fast").attach(plain)
    per_unit = 3 * SIZES["hidden_size"] * SIZES["num_hidden_layers"]
    assert abs(size(model) - size(plain)) <= per_unit / 2 < added


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "adapter.width=null"),
        ({"width": 3, "equal": "flops"}, "adapter.width=3"),
    ],
)
def test_settings_that_do_not_go_together(settings, key):
    with pytest.raises(ValueError, match=f"^{re.escape(key)}: "):
        wide(**settings)


def test_nothing_to_match():
    with pytest.raises(ValueError, match=r"^adapter\.equal=parameters: adapter\.like=sgd_fast "):
        wide(equal="parameters", like=build_adapter("sgd_fast")).attach(nano())


def test_a_model_without_a_gated_mlp():
    with pytest.raises(ValueError, match=r"^adapter=wide: "):
        wide(width=3).attach(nn.Linear(3, 3))
