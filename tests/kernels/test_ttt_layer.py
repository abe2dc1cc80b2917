"""The forms of TTT layers agree with each other, and their inner gradients with the loss."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Draws, assert_same, assert_split_is_the_same, call, cast, grid_inputs, leaves, outcome
from torch import Tensor

from ttt.kernels.ttt_layer.chunk import gelu_with_slope, inner_steps, ttt_dual
from ttt.kernels.ttt_layer.naive import ttt_naive
from ttt.kernels.ttt_layer.network import TTTState

SMALL = st.integers(1, 3)
KINDS = ["linear", "mlp"]
FORMS = [ttt_naive, ttt_dual]


def ttt_weights(kind: str, b: int, k: int, f: int, draws: Draws) -> dict[str, Tensor]:
    if kind == "linear":
        return {"w": draws.normal(b, k, k), "b": draws.normal(b, k)}
    shapes = {"w1": (b, f, k), "b1": (b, f), "w2": (b, k, f), "b2": (b, k)}
    return {name: draws.normal(*shape) for name, shape in shapes.items()}


def ttt_inputs(kind: str, seed: int, b: int = 2, n: int = 3, c: int = 4, k: int = 3, f: int = 5) -> dict:
    draws = Draws(seed)
    weights = partial(ttt_weights, kind, b, k, f, draws)
    return grid_inputs(draws, b, n, c, k) | {
        "eta_BNC": draws.uniform(b, n, c) / 4,
        "scale_BK": draws.normal(b, k),
        "shift_BK": draws.normal(b, k),
        "state": TTTState(weights(), weights()),
        "initial": weights(),
    }


@pytest.mark.parametrize("kind", KINDS)
@given(b=SMALL, n=SMALL, c=st.integers(1, 4), k=st.integers(1, 5), f=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_dual_form_is_the_definition(kind, b, n, c, k, f, seed):
    inputs = ttt_inputs(kind, seed, b, n, c, k, f)
    seen = inputs["token_BNC"].unsqueeze(-1)
    assert_same(outcome(ttt_dual, inputs, seen=seen), outcome(ttt_naive, inputs, seen=seen), rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_inner_gradient_is_that_of_the_loss(kind):
    draws = Draws(0)
    weights = {name: w[0] for name, w in ttt_weights(kind, 1, 3, 5, draws).items()}
    k_CK, v_CK, scale_K, shift_K, eta_C1 = (draws.normal(*s) for s in ((4, 3), (4, 3), (3,), (3,), (4, 1)))

    def loss(weights):
        if kind == "linear":
            z_CK = k_CK @ weights["w"].T + weights["b"]
        else:
            hidden_CF = F.gelu(k_CK @ weights["w1"].T + weights["b1"], approximate="tanh")
            z_CK = hidden_CF @ weights["w2"].T + weights["b2"]
        centred_CK = z_CK - z_CK.mean(-1, keepdim=True)
        y_CK = centred_CK / (centred_CK.square().mean(-1, keepdim=True) + 1e-6).sqrt() * scale_K + shift_K
        return (eta_C1 / 2 * (y_CK - (v_CK - k_CK)).square()).sum()

    steps = inner_steps(
        k_CK[None],
        target_BCK=(v_CK - k_CK)[None],
        eta_BC1=eta_C1[None],
        scale_B1K=scale_K[None, None],
        shift_B1K=shift_K[None, None],
        weights={name: w[None] for name, w in weights.items()},
    )
    got = [x for x_BCX, e_BCY in steps for x in ((e_BCY.mT @ x_BCX)[0], e_BCY.sum(1)[0])]
    assert_same(got, list(torch.func.grad(loss)(weights).values()), rtol=1e-10)


def test_gelu_and_its_slope():
    z = torch.linspace(-9, 9, 61, dtype=torch.float64).requires_grad_()
    value, slope = gelu_with_slope(z)
    expected = F.gelu(z, approximate="tanh")
    assert_same([value, slope], [expected, *torch.autograd.grad(expected.sum(), z)], rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_goes_on_inside_a_chunk(kind, form):
    assert_split_is_the_same(form, ttt_inputs(kind, 3))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_step_it_reads_what_it_began_with(kind, form):
    inputs = ttt_inputs(kind, 4)
    inputs["opens_BN"][:, 0] = True
    inputs["eta_BNC"] = torch.zeros_like(inputs["eta_BNC"])
    read, last = call(form, inputs)
    q, w = inputs["q_BNCK"], {name: x[:, None] for name, x in inputs["initial"].items()}
    if kind == "linear":
        z = q @ w["w"].mT + w["b"][:, None]
    else:
        z = F.gelu(q @ w["w1"].mT + w["b1"][:, None], approximate="tanh") @ w["w2"].mT + w["b2"][:, None]
    scale, shift = (inputs[name][:, None, None] for name in ("scale_BK", "shift_BK"))
    expected = q + F.layer_norm(z, z.shape[-1:], eps=1e-6) * scale + shift
    assert_same([read, *leaves(last)], [expected, *leaves(inputs["initial"]) * 2], rtol=1e-12)


def test_it_learns_what_a_key_gives():
    inputs = ttt_inputs("linear", 5, b=1, n=40, c=4, k=6)
    inputs["k_BNCK"] = F.normalize(inputs["k_BNCK"][:, :1], dim=-1).expand(1, 40, 4, 6)
    inputs["q_BNCK"], inputs["v_BNCK"] = inputs["k_BNCK"], inputs["v_BNCK"][:, :1].expand(1, 40, 4, 6)
    # A normalised output has mean 0 and norm sqrt(K): without an affine map, only such a target can
    # be reached.
    target = F.layer_norm(inputs["v_BNCK"], (6,))
    inputs["v_BNCK"] = inputs["k_BNCK"] + target
    ones = {"scale_BK": torch.ones(1, 6).double(), "shift_BK": torch.zeros(1, 6).double()}
    flags = {name: torch.ones_like(inputs[name]) for name in ("token_BNC", "closes_BN")}
    flags["opens_BN"] = torch.arange(40)[None] == 0
    read, _ = call(ttt_dual, inputs | ones | flags | {"eta_BNC": torch.full((1, 40, 4), 0.3).double()})
    error = (read - inputs["v_BNCK"]).square().mean((0, 2, 3))
    assert error[-1] < 0.01 * error[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_states_stay_fp32_under_bf16_inputs_and_autocast(kind, form):
    read, last = call(form, cast(ttt_inputs(kind, 8), torch.bfloat16))
    assert read.dtype == torch.bfloat16
    assert {x.dtype for x in leaves(last)} == {torch.float32}
    # Autograd of the definition multiplies under autocast; the dual form never does.
    if form is ttt_dual:
        inputs = cast(ttt_inputs(kind, 9), torch.float32)
        plain = leaves(call(form, inputs))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert all(map(torch.equal, leaves(call(form, inputs)), plain))
