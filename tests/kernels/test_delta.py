"""The delta rule and Titans: definitions against loops by hand, fast forms against definitions, with all gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ttt.kernels.delta.chunk import delta_chunk, delta_naive, products_between
from ttt.kernels.titans.chunk import TitansState, titans_chunk, titans_naive

SIZES = st.integers(min_value=1, max_value=5)
LENGTHS = st.integers(min_value=1, max_value=11)
SEEDS = st.integers(0, 1000)


def draws(seed: int):
    """Draw normal numbers, numbers in [0, 1] with exact zeros and ones among them, and flags."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def rate(*shape: int) -> Tensor:
        wide = torch.rand(*shape, generator=generator, dtype=torch.float64) * 1.5 - 0.25
        return wide.clamp(0, 1)

    def flag(*shape: int, share: float = 0.3) -> Tensor:
        return torch.rand(*shape, generator=generator) < share

    return normal, rate, flag


def delta_inputs(seed: int, b: int, t: int, k: int, v: int) -> dict[str, Tensor]:
    normal, rate, _ = draws(seed)
    return {
        "q_BTK": normal(b, t, k),
        "k_BTK": normal(b, t, k) / k**0.5,
        "v_BTV": normal(b, t, v),
        "beta_BT": rate(b, t),
        "gate_BT": rate(b, t),
        "state_BVK": normal(b, v, k),
    }


def titans_inputs(seed: int, b: int, n: int, c: int, k: int, v: int) -> dict[str, Tensor]:
    normal, rate, flag = draws(seed)
    return {
        "q_BNCK": normal(b, n, c, k),
        "k_BNCK": normal(b, n, c, k) / k**0.5,
        "v_BNCV": normal(b, n, c, v),
        "theta_BNC": rate(b, n, c),
        "mu_BNC": rate(b, n, c),
        "alpha_BNC": rate(b, n, c),
        "token_BNC": flag(b, n, c, share=0.7),
        # Rows of one document share their flags.
        "opens_BN": flag(b if seed % 2 else 1, n),
        "closes_BN": flag(b if seed % 3 else 1, n, share=0.7),
        "start_BVK": normal(b, v, k),
        "memory_BVK": normal(b, v, k),
        "momentum_BVK": normal(b, v, k),
        "initial_BVK": normal(b if seed % 5 else 1, v, k),
    }


def run_delta(form, inputs: dict[str, Tensor], **options):
    rest = {key: x for key, x in inputs.items() if key != "q_BTK"}
    return form(inputs["q_BTK"], **rest, **options)


def run_titans(form, inputs: dict[str, Tensor]):
    state = TitansState(*(inputs[key] for key in TitansState._fields))
    rest = {key: x for key, x in inputs.items() if key not in (*TitansState._fields, "q_BNCK")}
    read, last = form(inputs["q_BNCK"], **rest, state=state)
    return read, *last


def outcome(run, inputs: dict[str, Tensor], *, seen: Tensor | None = None) -> list[Tensor]:
    """What `run` returns and the gradients to all inputs; of what was read, only what is `seen` counts."""
    leaves = {key: x.clone().requires_grad_() if x.is_floating_point() else x for key, x in inputs.items()}
    read, *states = run(leaves)
    read = read if seen is None else read * seen
    returned = [read, *states]
    loss = sum((x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)).sum() for x in returned)
    loss.backward()
    floating = [x for x in leaves.values() if x.is_floating_point()]
    # An input that no token uses has no gradient by hand, and one of zeros otherwise.
    return [x.detach() for x in returned] + [torch.zeros_like(x) if x.grad is None else x.grad for x in floating]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def delta_by_hand(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    reads, states = [], []
    for q, k, v, beta, gate, state in zip(*inputs.values(), strict=True):
        memory = state.clone()
        for t in range(len(q)):
            memory = gate[t] * memory
            wrong = torch.mv(memory, k[t]) - v[t]
            memory = memory - beta[t] * torch.outer(wrong, k[t])
            reads.append(torch.mv(memory, q[t]))
        states.append(memory)
    return torch.stack(reads).view_as(inputs["v_BTV"]), torch.stack(states)


def titans_by_hand(inputs: dict[str, Tensor]) -> list[Tensor]:
    batch, chunks, size = inputs["theta_BNC"].shape
    lanes = []
    for lane in range(batch):
        x = {key: value.expand(batch, *value.shape[1:])[lane] for key, value in inputs.items()}
        start, memory, momentum = x["start_BVK"], x["memory_BVK"], x["momentum_BVK"]
        reads = []
        for n in range(chunks):
            if x["opens_BN"][n]:
                start, memory, momentum = x["initial_BVK"], x["initial_BVK"], torch.zeros_like(momentum)
            for at in ((n, c) for c in range(size)):
                if x["token_BNC"][at]:
                    gradient = torch.outer(torch.mv(start, x["k_BNCK"][at]) - x["v_BNCV"][at], x["k_BNCK"][at])
                    momentum = x["mu_BNC"][at] * momentum - x["theta_BNC"][at] * gradient
                    memory = (1 - x["alpha_BNC"][at]) * memory + momentum
                reads.append(torch.mv(memory, x["q_BNCK"][at]))
            start = memory if x["closes_BN"][n] else start
        lanes.append([torch.stack(reads).view(chunks, size, -1), start, memory, momentum])
    return [torch.stack(parts) for parts in zip(*lanes, strict=True)]


@given(b=SIZES, t=LENGTHS, k=SIZES, v=SIZES, size=SIZES, seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_delta_forms_agree(b, t, k, v, size, seed):
    inputs = delta_inputs(seed, b, t, k, v)
    expected = outcome(lambda x: run_delta(delta_naive, x), inputs)
    assert_same(outcome(delta_by_hand, inputs), expected)
    assert_same(outcome(lambda x: run_delta(delta_chunk, x, size=size), inputs), expected)
    assert_same(outcome(lambda x: run_delta(delta_chunk, x), inputs), expected)


@given(b=SIZES, n=SIZES, c=SIZES, k=SIZES, v=SIZES, seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_titans_forms_agree(b, n, c, k, v, seed):
    inputs = titans_inputs(seed, b, n, c, k, v)
    seen = inputs["token_BNC"].unsqueeze(-1)
    expected = outcome(lambda x: run_titans(titans_naive, x), inputs, seen=seen)
    assert_same(outcome(titans_by_hand, inputs, seen=seen), expected)
    assert_same(outcome(lambda x: run_titans(titans_chunk, x), inputs, seen=seen), expected)


@pytest.mark.parametrize("form", [delta_naive, delta_chunk])
@given(t=st.integers(2, 11), cut=st.integers(1, 10), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_delta_in_two_calls_equals_one(form, t, cut, seed):
    inputs = delta_inputs(seed, 2, t, 3, 4)
    cut = min(cut, t - 1)
    state = inputs["state_BVK"]
    reads = []
    for part in (slice(0, cut), slice(cut, t)):
        cells = {key: x[:, part] for key, x in inputs.items() if key != "state_BVK"}
        read, state = run_delta(form, {**cells, "state_BVK": state})
        reads.append(read)
    assert_same([torch.cat(reads, dim=1), state], list(run_delta(form, inputs)))


@pytest.mark.parametrize("form", [titans_naive, titans_chunk])
@given(n=SIZES, c=st.integers(2, 5), chunk=st.integers(0, 4), cut=st.integers(1, 4), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_titans_goes_on_within_a_chunk(form, n, c, chunk, cut, seed):
    inputs = titans_inputs(seed, 2, n, c, 3, 4)
    chunk, cut = min(chunk, n - 1), min(cut, c - 1)
    state = {key: inputs[key] for key in TitansState._fields}
    parts = [(slice(0, chunk), slice(0, c))] if chunk else []
    parts += [(slice(chunk, chunk + 1), slice(0, cut)), (slice(chunk, chunk + 1), slice(cut, c))]
    parts += [(slice(chunk + 1, n), slice(0, c))] if chunk + 1 < n else []
    reads: dict[int, list[Tensor]] = {}
    for chunks, cells in parts:
        piece = {key: x[:, chunks, cells] for key, x in inputs.items() if "_BNC" in key}
        # Only the last part of a chunk closes it, only the first opens it.
        piece["opens_BN"] = inputs["opens_BN"][:, chunks] & (cells.start == 0)
        piece["closes_BN"] = inputs["closes_BN"][:, chunks] & (cells.stop == c)
        read, *last = run_titans(form, {**piece, **state, "initial_BVK": inputs["initial_BVK"]})
        state = dict(zip(TitansState._fields, last, strict=True))
        reads.setdefault(chunks.start, []).append(read)
    read = torch.cat([torch.cat(pieces, dim=2) for pieces in reads.values()], dim=1)
    assert_same([read, *state.values()], list(run_titans(form, inputs)))


@pytest.mark.parametrize("form", [delta_naive, delta_chunk])
def test_delta_padding_changes_nothing(form):
    inputs = delta_inputs(3, 2, 9, 3, 4)
    padding = delta_inputs(4, 2, 9, 3, 4) | {"beta_BT": torch.zeros(2, 9), "gate_BT": torch.ones(2, 9)}
    expected, last = run_delta(form, inputs)
    for order in ([inputs, padding], [padding, inputs]):
        both = {key: torch.cat([x[key] for x in order], dim=1).double() for key in inputs if key != "state_BVK"}
        read, after = run_delta(form, both | {"state_BVK": inputs["state_BVK"]})
        mine = read[:, :9] if order[0] is inputs else read[:, 9:]
        assert_same([mine, after], [expected, last])


@pytest.mark.parametrize("form", [titans_naive, titans_chunk])
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_titans_empty_cells_change_nothing(form, seed):
    inputs = titans_inputs(seed, 2, 3, 4, 3, 2)
    other = titans_inputs(seed + 1, 2, 3, 4, 3, 2)
    token_BNC = inputs["token_BNC"]
    changed = dict(inputs)
    for key in ("q_BNCK", "k_BNCK", "v_BNCV", "theta_BNC", "mu_BNC", "alpha_BNC"):
        mask = token_BNC if inputs[key].dim() == 3 else token_BNC.unsqueeze(-1)
        changed[key] = torch.where(mask, inputs[key], 7 * other[key])
    read, *state = run_titans(form, inputs)
    read_changed, *state_changed = run_titans(form, changed)
    assert_same([read_changed[token_BNC], *state_changed], [read[token_BNC], *state])
    empty = inputs | {"token_BNC": token_BNC & False, "opens_BN": inputs["opens_BN"] & False}
    _, _, memory, momentum = run_titans(form, empty)
    assert_same([memory, momentum], [inputs["memory_BVK"], inputs["momentum_BVK"]])


@pytest.mark.parametrize("form", [delta_naive, delta_chunk])
def test_orthonormal_keys_are_stored_exactly(form):
    inputs = delta_inputs(0, 2, 6, 6, 4)
    keys = torch.linalg.qr(inputs["k_BTK"]).Q
    ones = torch.ones(2, 6, dtype=torch.float64)
    _, state = run_delta(form, inputs | {"k_BTK": keys, "beta_BT": ones, "gate_BT": ones})
    assert_same([keys @ state.mT], [inputs["v_BTV"]])


@pytest.mark.parametrize("form", [titans_naive, titans_chunk])
def test_titans_without_momentum_or_decay_is_the_delta_rule(form):
    inputs = delta_inputs(1, 3, 7, 4, 5) | {"gate_BT": torch.ones(3, 7, dtype=torch.float64)}
    cells = {name: inputs[key].unsqueeze(2) for name, key in (("q_BNCK", "q_BTK"), ("k_BNCK", "k_BTK"))}
    cells |= {"v_BNCV": inputs["v_BTV"].unsqueeze(2), "theta_BNC": inputs["beta_BT"].unsqueeze(2)}
    zeros_BNC = torch.zeros(3, 7, 1, dtype=torch.float64)
    state_BVK = inputs["state_BVK"]
    read, _, memory, _ = run_titans(
        form,
        cells
        | {"mu_BNC": zeros_BNC, "alpha_BNC": zeros_BNC, "token_BNC": zeros_BNC == 0}
        | {"opens_BN": torch.zeros(1, 7, dtype=torch.bool), "closes_BN": torch.ones(1, 7, dtype=torch.bool)}
        | {"start_BVK": state_BVK, "memory_BVK": state_BVK, "momentum_BVK": 0 * state_BVK, "initial_BVK": state_BVK},
    )
    assert_same([read.squeeze(2), memory], list(run_delta(delta_naive, inputs)))


def test_states_stay_fp32_under_bf16_inputs_and_autocast():
    single = {key: x.float() for key, x in delta_inputs(0, 2, 7, 3, 4).items()}
    cells = {key: x.float() if x.is_floating_point() else x for key, x in titans_inputs(0, 2, 3, 4, 3, 4).items()}
    runs = [(run_delta, form, single) for form in (delta_naive, delta_chunk)]
    runs += [(run_titans, form, cells) for form in (titans_naive, titans_chunk)]
    for run, form, inputs in runs:
        expected = run(form, inputs)
        half = {key: x.bfloat16() if x.is_floating_point() else x for key, x in inputs.items()}
        read, *states = run(form, half)
        assert read.dtype == torch.bfloat16
        assert {x.dtype for x in states} == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(run(form, inputs), expected, rtol=0, atol=0)


def test_tiny_gates_stay_finite_and_exact():
    gate_BT = torch.tensor([1.0, 1e-38, 1e-12, 0.0, 1e-45, 1.0, 0.5, 1e-12]).repeat(2, 8)
    inputs = {key: x.float() for key, x in delta_inputs(0, 2, 64, 3, 4).items()} | {"gate_BT": gate_BT}
    expected = outcome(lambda x: run_delta(delta_naive, x), inputs)
    for one, other in zip(outcome(lambda x: run_delta(delta_chunk, x), inputs), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_products_by_hand():
    products = products_between(torch.tensor([5.0, 2.0, 0.0, 3.0]))
    assert products.tolist() == [[1, 0, 0, 0], [2, 1, 0, 0], [0, 0, 1, 0], [0, 0, 3, 1]]
