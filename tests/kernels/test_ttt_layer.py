"""TTT layers and LaCT: fast forms against their definitions, gradients against the written-down losses."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ttt.kernels.lact.chunk import LactState, lact, lact_naive, newton_schulz, swiglu, written
from ttt.kernels.ttt_layer.chunk import TTTState, gelu_with_slope, inner_steps, ttt_dual, ttt_naive

SMALL = st.integers(1, 3)
FLAGS = ("token_BNC", "opens_BN", "closes_BN")
KINDS = ["linear", "mlp"]


def ttt_weights(kind: str, b: int, k: int, f: int, draw) -> dict[str, Tensor]:
    if kind == "linear":
        return {"w": draw(b, k, k), "b": draw(b, k)}
    return {"w1": draw(b, f, k), "b1": draw(b, f), "w2": draw(b, k, f), "b2": draw(b, k)}


def lact_weights(b: int, k: int, f: int, draw) -> dict[str, Tensor]:
    return {"w0": draw(b, f, k), "w1": draw(b, k, f), "w2": draw(b, f, k)}


def drawer(generator: torch.Generator):
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def grid_inputs(generator: torch.Generator, b: int, n: int, c: int, k: int) -> dict[str, Tensor]:
    def chance(p: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) < p

    lanes = 1 if chance(0.3, 1).item() else b
    draw = drawer(generator)
    return {
        "q_BNCK": draw(b, n, c, k),
        "k_BNCK": draw(b, n, c, k),
        "v_BNCK": draw(b, n, c, k),
        "token_BNC": chance(0.7, b, n, c),
        "opens_BN": chance(0.3, lanes, n),
        "closes_BN": chance(0.6, lanes, n),
    }


def ttt_inputs(kind: str, seed: int, b: int = 2, n: int = 3, c: int = 4, k: int = 3, f: int = 5) -> dict:
    generator = torch.Generator().manual_seed(seed)
    draw = drawer(generator)
    weights = partial(ttt_weights, kind, b, k, f, draw)
    return grid_inputs(generator, b, n, c, k) | {
        "eta_BNC": torch.rand(b, n, c, generator=generator, dtype=torch.float64).div(4).requires_grad_(),
        "scale_BK": draw(b, k),
        "shift_BK": draw(b, k),
        "state": TTTState(weights(), weights()),
        "initial": weights(),
    }


def lact_inputs(seed: int, b: int = 2, n: int = 3, c: int = 4, k: int = 3, f: int = 5) -> dict:
    generator = torch.Generator().manual_seed(seed)
    draw = drawer(generator)
    weights = partial(lact_weights, b, k, f, draw)
    count_B = torch.randint(1, 4, (b,), generator=generator).double()
    mu_sum_B = torch.rand(b, generator=generator, dtype=torch.float64) * count_B
    return grid_inputs(generator, b, n, c, k) | {
        "lr_BNCJ": torch.rand(b, n, c, 3, generator=generator, dtype=torch.float64).requires_grad_(),
        "mu_BNC": torch.rand(b, n, c, generator=generator, dtype=torch.float64).requires_grad_(),
        "begins_BN": torch.rand(b, n, generator=generator) < 0.3,
        "state": LactState(weights(), weights(), weights(), mu_sum_B.requires_grad_(), count_B),
        "initial": weights(),
    }


def leaves(x) -> list[Tensor]:
    """All tensors of a nest of dicts and tuples."""
    if isinstance(x, Tensor):
        return [x]
    return [y for item in (x.values() if isinstance(x, dict) else x) for y in leaves(item)]


def mapped(x, change):
    """The same nest with `change` of every tensor."""
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, dict):
        return {name: mapped(item, change) for name, item in x.items()}
    return type(x)(*(mapped(item, change) for item in x))


def call(form, inputs: dict):
    return form(inputs["q_BNCK"], **{name: x for name, x in inputs.items() if name != "q_BNCK"})


def outcome(form, inputs: dict) -> list[Tensor]:
    """What was read at the tokens, the last state, and the gradient of all that to every input."""
    read, last = call(form, inputs)
    assert bool(read.isfinite().all())
    # What an empty cell reads is nobody's business.
    values = [read * inputs["token_BNC"].unsqueeze(-1), *leaves(last)]
    wanted = [x for x in leaves(inputs) if x.requires_grad]
    weights = [torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x) for x in values]
    loss = sum((w * x).sum() for w, x in zip(weights, values, strict=True))
    return values + list(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))


def assert_same(got: list[Tensor], expected: list[Tensor], rtol: float = 1e-7) -> None:
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=rtol * max(1.0, float(y.detach().abs().max())))


@pytest.mark.parametrize("kind", KINDS)
@given(b=SMALL, n=SMALL, c=st.integers(1, 4), k=st.integers(1, 5), f=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_ttt_dual_is_the_definition(kind, b, n, c, k, f, seed):
    inputs = ttt_inputs(kind, seed, b, n, c, k, f)
    assert_same(outcome(ttt_dual, inputs), outcome(ttt_naive, inputs))


@pytest.mark.parametrize("muon", [False, True])
@given(b=SMALL, n=SMALL, c=st.integers(1, 4), k=st.integers(1, 5), f=st.integers(1, 5), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_lact_is_the_definition(muon, b, n, c, k, f, seed):
    inputs = lact_inputs(seed, b, n, c, k, f)
    assert_same(outcome(partial(lact, muon=muon), inputs), outcome(partial(lact_naive, muon=muon), inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_ttt_inner_gradient_is_that_of_the_loss(kind):
    draw = drawer(torch.Generator().manual_seed(0))
    weights = {name: w.detach()[0] for name, w in ttt_weights(kind, 1, 3, 5, draw).items()}
    k_CK, v_CK, scale_K, shift_K, eta_C1 = (draw(*s).detach() for s in ((4, 3), (4, 3), (3,), (3,), (4, 1)))

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


def test_lact_inner_gradient_is_that_of_the_loss():
    draw = drawer(torch.Generator().manual_seed(0))
    weights = {name: w.detach() for name, w in lact_weights(2, 3, 5, draw).items()}
    k_BCK, v_BCK = draw(2, 4, 3).detach(), draw(2, 4, 3).detach()

    def loss(weights):
        hidden_BCF = F.silu(k_BCK @ weights["w0"].mT) * (k_BCK @ weights["w2"].mT)
        return -((hidden_BCF @ weights["w1"].mT) * v_BCK).sum()

    none = {name: torch.zeros_like(w) for name, w in weights.items()}
    got = written(none, k_BCK=k_BCK, v_BCK=v_BCK, lr_BCJ=torch.ones(2, 4, 3).double(), weights=weights)
    assert_same(leaves(got), [-x for x in torch.func.grad(loss)(weights).values()], rtol=1e-10)


def test_gelu_and_its_slope():
    z = torch.linspace(-9, 9, 61, dtype=torch.float64).requires_grad_()
    value, slope = gelu_with_slope(z)
    expected = F.gelu(z, approximate="tanh")
    assert_same([value, slope], [expected, *torch.autograd.grad(expected.sum(), z)], rtol=1e-12)


@pytest.mark.parametrize("form", [ttt_naive, ttt_dual])
@pytest.mark.parametrize("kind", KINDS)
def test_ttt_goes_on_inside_a_chunk(kind, form):
    inputs = ttt_inputs(kind, 3)
    assert_split_is_the_same(form, inputs)


@pytest.mark.parametrize("form", [lact_naive, lact])
@pytest.mark.parametrize("muon", [False, True])
def test_lact_goes_on_inside_a_chunk(muon, form):
    inputs = lact_inputs(3)
    # A chunk whose second half is empty closes all the same.
    inputs["token_BNC"][1, 1, 2:] = False
    assert_split_is_the_same(partial(form, muon=muon), inputs)


def assert_split_is_the_same(form, inputs: dict, at: int = 2) -> None:
    inputs["closes_BN"] = torch.tensor([[True, False, True], [False, True, True]])
    inputs["opens_BN"] = torch.tensor([[False, False, True], [True, False, False]])
    whole, last = call(form, inputs)
    never = torch.zeros(1, 1, dtype=torch.bool)
    reads, state = [], inputs["state"]
    for n in range(3):
        for half in (slice(None, at), slice(at, None)):
            part = {name: x[:, n : n + 1] for name, x in inputs.items() if name.endswith(("NCK", "NC", "NCJ", "_BN"))}
            part = {name: x if name.endswith("_BN") else x[:, :, half] for name, x in part.items()}
            part |= dict.fromkeys({"opens_BN", "begins_BN"} & set(part), never) if half.start else {"closes_BN": never}
            read, state = call(form, inputs | part | {"state": state})
            reads.append(read)
    split = torch.cat(reads, dim=1).unflatten(1, (3, 2)).flatten(2, 3)
    assert_same([split, *leaves(state)], [whole, *leaves(last)], rtol=1e-10)


@pytest.mark.parametrize("form", [ttt_naive, ttt_dual])
@pytest.mark.parametrize("kind", KINDS)
def test_ttt_without_a_step_reads_what_it_began_with(kind, form):
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


def test_ttt_learns_what_a_key_gives():
    inputs = mapped(ttt_inputs("linear", 5, b=1, n=40, c=4, k=6), Tensor.detach)
    inputs["k_BNCK"] = F.normalize(inputs["k_BNCK"][:, :1], dim=-1).expand(1, 40, 4, 6)
    inputs["q_BNCK"], inputs["v_BNCK"] = inputs["k_BNCK"], inputs["v_BNCK"][:, :1].expand(1, 40, 4, 6)
    # A normalised output has mean 0 and norm sqrt(K): only such a target can be reached without an affine map.
    target = F.layer_norm(inputs["v_BNCK"], (6,))
    inputs["v_BNCK"] = inputs["k_BNCK"] + target
    ones = {"scale_BK": torch.ones(1, 6).double(), "shift_BK": torch.zeros(1, 6).double()}
    flags = {name: torch.ones_like(inputs[name]) for name in FLAGS}
    flags["opens_BN"] = torch.arange(40)[None] == 0
    read, _ = call(ttt_dual, inputs | ones | flags | {"eta_BNC": torch.full((1, 40, 4), 0.3).double()})
    error = (read - inputs["v_BNCK"]).square().mean((0, 2, 3))
    assert error[-1] < 0.01 * error[0]


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
    found = torch.linalg.svdvals(got)
    assert 0.6 <= float(found.min()) <= float(found.max()) <= 1.3


@pytest.mark.parametrize("muon", [False, True])
def test_lact_chunk_by_hand(muon):
    inputs = mapped(lact_inputs(6, b=1, n=1), Tensor.detach)
    none = dict.fromkeys(("opens_BN", "begins_BN"), torch.zeros(1, 1).bool())
    inputs |= {name: torch.ones_like(inputs[name]) for name in FLAGS} | none
    inputs["token_BNC"][0, 0, 1] = False
    state = inputs["state"]
    read, last = call(partial(lact, muon=muon), inputs)
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


@pytest.mark.parametrize("form", [lact_naive, lact])
def test_lact_leaves_its_momentum_alone_in_an_empty_chunk(form):
    inputs = lact_inputs(10)
    inputs |= {"opens_BN": torch.zeros(1, 3).bool(), "closes_BN": torch.ones(1, 3).bool()}
    inputs["token_BNC"][:, 2] = False
    _, last = call(partial(form, muon=False), inputs)
    two = {name: x[:, :2] for name, x in inputs.items() if isinstance(x, Tensor)}
    _, expected = call(partial(form, muon=False), inputs | two)
    assert_same(leaves(last), leaves(expected), rtol=1e-12)


@pytest.mark.parametrize("muon", [False, True])
def test_lact_rows_keep_their_norm(muon):
    inputs = lact_inputs(7)
    inputs |= {name: torch.ones_like(inputs[name]) for name in FLAGS} | {"opens_BN": torch.zeros(1, 3).bool()}
    initial = inputs["initial"]
    nothing, none_B = mapped(initial, torch.zeros_like), torch.zeros(len(initial["w0"]), dtype=torch.float64)
    start = LactState(initial, nothing, nothing, none_B, none_B)
    _, last = call(partial(lact, muon=muon), inputs | {"state": start})
    for name, w in inputs["initial"].items():
        assert not torch.allclose(last.weights[name], w)
        torch.testing.assert_close(last.weights[name].norm(dim=-1), w.norm(dim=-1))


@pytest.mark.parametrize(
    ("form", "make"),
    [(form, partial(ttt_inputs, kind)) for form in (ttt_naive, ttt_dual) for kind in KINDS]
    + [(partial(form, muon=muon), lact_inputs) for form in (lact_naive, lact) for muon in (False, True)],
)
def test_states_stay_fp32_under_bf16(form, make):
    inputs = mapped(make(8), lambda x: x.detach().bfloat16() if x.is_floating_point() else x)
    read, last = call(form, inputs)
    assert read.dtype == torch.bfloat16
    assert {x.dtype for x in leaves(last)} == {torch.float32}


@pytest.mark.parametrize(
    ("form", "make"), [(ttt_dual, partial(ttt_inputs, "mlp")), (partial(lact, muon=True), lact_inputs)]
)
def test_autocast_does_not_round_the_states(form, make):
    inputs = mapped(make(9), lambda x: x.detach().float() if x.is_floating_point() else x)
    plain = call(form, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = call(form, inputs)
    assert all(torch.equal(x, y) for x, y in zip(leaves(plain), leaves(mixed), strict=True))
