"""The forms of LaCT agree with each other and with the loss; Muon and row norms are right."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Draws, assert_same, assert_split_is_the_same, call, cast, grid_inputs, leaves, outcome
from torch import Tensor

from ttt.kernels.lact.chunk import lact_chunk, with_writes
from ttt.kernels.lact.memory import LactState, newton_schulz, swiglu
from ttt.kernels.lact.naive import lact_naive
from ttt.kernels.states import zeros_of

SMALL = st.integers(1, 3)
FLAGS = ("token_BNC", "opens_BN", "closes_BN")
FORMS = [lact_naive, lact_chunk]


def lact_weights(b: int, k: int, f: int, draws: Draws) -> dict[str, Tensor]:
    return {"w0": draws.normal(b, f, k), "w1": draws.normal(b, k, f), "w2": draws.normal(b, f, k)}


def lact_inputs(seed: int, b: int = 2, n: int = 3, c: int = 4, k: int = 3, f: int = 5) -> dict:
    draws = Draws(seed)
    weights = partial(lact_weights, b, k, f, draws)
    count_B = torch.randint(1, 4, (b,), generator=draws.generator).double()
    return grid_inputs(draws, b, n, c, k) | {
        "lr_BNCJ": draws.uniform(b, n, c, 3),
        "mu_BNC": draws.uniform(b, n, c),
        "begins_BN": draws.flag(b, n),
        "state": LactState(weights(), weights(), weights(), draws.uniform(b) * count_B, count_B),
        "initial": weights(),
    }


@pytest.mark.parametrize("muon", [False, True])
@given(b=SMALL, n=SMALL, c=st.integers(1, 4), k=st.integers(1, 5), f=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_chunk_form_is_the_definition(muon, b, n, c, k, f, seed):
    inputs = lact_inputs(seed, b, n, c, k, f)
    seen = inputs["token_BNC"].unsqueeze(-1)
    got, expected = (outcome(partial(form, muon=muon), inputs, seen=seen) for form in (lact_chunk, lact_naive))
    assert_same(got, expected, rtol=1e-7)


def test_the_inner_gradient_is_that_of_the_loss():
    draws = Draws(0)
    weights = lact_weights(2, 3, 5, draws)
    k_BCK, v_BCK = draws.normal(2, 4, 3), draws.normal(2, 4, 3)

    def loss(weights):
        hidden_BCF = F.silu(k_BCK @ weights["w0"].mT) * (k_BCK @ weights["w2"].mT)
        return -((hidden_BCF @ weights["w1"].mT) * v_BCK).sum()

    got = with_writes(zeros_of(weights), k_BCK=k_BCK, v_BCK=v_BCK, lr_BCJ=torch.ones(2, 4, 3).double(), weights=weights)
    assert_same(leaves(got), [-x for x in torch.func.grad(loss)(weights).values()], rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("muon", [False, True])
def test_a_reader_goes_on_inside_a_chunk(muon, form):
    inputs = lact_inputs(3)
    # A chunk whose second half is empty closes all the same.
    inputs["token_BNC"][1, 1, 2:] = False
    assert_split_is_the_same(partial(form, muon=muon), inputs)


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (1, 3), (5, 1)])
def test_muon_takes_singular_values_to_about_one(shape):
    generator = torch.Generator().manual_seed(0)
    m = torch.randn(6, *shape, generator=generator, dtype=torch.float64)
    left, value, right = torch.linalg.svd(m, full_matrices=False)
    value = 0.2 + value / value.max()
    got = newton_schulz((left * value[:, None]) @ right)
    scaled = value / value.norm(dim=-1, keepdim=True)
    for _ in range(5):
        scaled = 3.4445 * scaled - 4.7750 * scaled**3 + 2.0315 * scaled**5
    assert_same([got], [(left * scaled[:, None]) @ right], rtol=1e-5)
    values = torch.linalg.svdvals(got)
    assert 0.6 <= float(values.min()) <= float(values.max()) <= 1.3


@pytest.mark.parametrize("muon", [False, True])
def test_a_chunk_by_hand(muon):
    inputs = lact_inputs(6, b=1, n=1)
    none = dict.fromkeys(("opens_BN", "begins_BN"), torch.zeros(1, 1).bool())
    inputs |= {name: torch.ones_like(inputs[name]) for name in FLAGS} | none
    inputs["token_BNC"][0, 0, 1] = False
    state = inputs["state"]
    read, last = call(partial(lact_chunk, muon=muon), inputs)
    q, k, v, lr = (inputs[name][:, 0] for name in ("q_BNCK", "k_BNCK", "v_BNCK", "lr_BNCJ"))
    assert_same([read[:, 0]], [swiglu(q, weights=state.weights)], rtol=1e-12)
    mu = (state.mu_sum_B + inputs["mu_BNC"][0, 0, [0, 2, 3]].sum()) / (state.count_B + 3)
    for j, name in enumerate(state.weights):
        added = state.pending[name].clone()
        for c in (0, 2, 3):
            loss = torch.func.grad(lambda w, c=c: -(swiglu(k[:, c : c + 1], weights=w) * v[:, c]).sum())
            added -= lr[0, c, j] * loss(state.weights)[name]
        momentum = mu * state.momentum[name] + added
        moved = state.weights[name] + (newton_schulz(momentum) if muon else momentum)
        row = inputs["initial"][name].norm(dim=-1, keepdim=True)
        assert_same([last.momentum[name], last.weights[name]], [momentum, moved / moved.norm(dim=-1)[..., None] * row])
    assert not any(bool(x.any()) for x in leaves(last[2:]))


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_chunk_leaves_the_momentum_alone(form):
    inputs = lact_inputs(10)
    inputs |= {"opens_BN": torch.zeros(1, 3).bool(), "closes_BN": torch.ones(1, 3).bool()}
    inputs["token_BNC"][:, 2] = False
    _, last = call(partial(form, muon=False), inputs)
    two = {name: x[:, :2] for name, x in inputs.items() if isinstance(x, Tensor)}
    _, expected = call(partial(form, muon=False), inputs | two)
    assert_same(leaves(last), leaves(expected), rtol=1e-12)


@pytest.mark.parametrize("muon", [False, True])
def test_rows_keep_their_norm(muon):
    inputs = lact_inputs(7)
    inputs |= {name: torch.ones_like(inputs[name]) for name in FLAGS} | {"opens_BN": torch.zeros(1, 3).bool()}
    initial = inputs["initial"]
    zeros, zeros_B = zeros_of(initial), torch.zeros(len(initial["w0"]), dtype=torch.float64)
    start = LactState(initial, zeros, zeros, zeros_B, zeros_B)
    _, last = call(partial(lact_chunk, muon=muon), inputs | {"state": start})
    for name, w in inputs["initial"].items():
        assert not torch.allclose(last.weights[name], w)
        torch.testing.assert_close(last.weights[name].norm(dim=-1), w.norm(dim=-1))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("muon", [False, True])
def test_states_stay_fp32_under_bf16_inputs_and_autocast(muon, form):
    form, chunked = partial(form, muon=muon), form is lact_chunk
    read, last = call(form, cast(lact_inputs(8), torch.bfloat16))
    assert read.dtype == torch.bfloat16
    assert {x.dtype for x in leaves(last)} == {torch.float32}
    # Autograd of the definition multiplies under autocast; the chunk form never does.
    if chunked:
        inputs = cast(lact_inputs(9), torch.float32)
        plain = leaves(call(form, inputs))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert all(map(torch.equal, leaves(call(form, inputs)), plain))
