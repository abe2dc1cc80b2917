"""The forms of Titans agree with a loop by hand and with each other, gradients included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Draws, assert_same, call, cast, delta_inputs, leaves, outcome
from torch import Tensor

from ttt.kernels.delta.naive import delta_naive
from ttt.kernels.titans.chunk import titans_chunk
from ttt.kernels.titans.naive import titans_naive
from ttt.kernels.titans.state import TitansState

SIZES = st.integers(min_value=1, max_value=5)
SEEDS = st.integers(0, 1000)
FORMS = [titans_naive, titans_chunk]


def titans_inputs(seed: int, b: int, n: int, c: int, k: int, v: int) -> dict:
    draws = Draws(seed)
    return {
        "q_BNCK": draws.normal(b, n, c, k),
        "k_BNCK": draws.normal(b, n, c, k) / k**0.5,
        "v_BNCV": draws.normal(b, n, c, v),
        "theta_BNC": draws.rate(b, n, c),
        "mu_BNC": draws.rate(b, n, c),
        "alpha_BNC": draws.rate(b, n, c),
        "token_BNC": draws.flag(b, n, c, share=0.7),
        # Rows of one document share their flags.
        "opens_BN": draws.flag(b if seed % 2 else 1, n),
        "closes_BN": draws.flag(b if seed % 3 else 1, n, share=0.7),
        "state": TitansState(*(draws.normal(b, v, k) for _ in range(3))),
        "initial_BVK": draws.normal(b if seed % 5 else 1, v, k),
    }


def lane_by_hand(x: dict[str, Tensor], start: Tensor, memory: Tensor, momentum: Tensor) -> list[Tensor]:
    """One lane: what was read, and the last start, memory and momentum."""
    chunks, size = x["theta_BNC"].shape
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
    return [torch.stack(reads).view(chunks, size, -1), start, memory, momentum]


def titans_by_hand(q_BNCK: Tensor, *, state: TitansState, **inputs: Tensor) -> list[Tensor]:
    batch, inputs = len(q_BNCK), inputs | {"q_BNCK": q_BNCK}
    lanes = []
    for b in range(batch):
        lane = {key: x.expand(batch, *x.shape[1:])[b] for key, x in inputs.items()}
        lanes.append(lane_by_hand(lane, *(x[b] for x in state)))
    return [torch.stack(parts) for parts in zip(*lanes, strict=True)]


@given(b=SIZES, n=SIZES, c=SIZES, k=SIZES, v=SIZES, seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_forms_agree(b, n, c, k, v, seed):
    inputs = titans_inputs(seed, b, n, c, k, v)
    seen = inputs["token_BNC"].unsqueeze(-1)
    expected = outcome(titans_naive, inputs, seen=seen)
    assert_same(outcome(titans_by_hand, inputs, seen=seen), expected)
    assert_same(outcome(titans_chunk, inputs, seen=seen), expected)


@pytest.mark.parametrize("form", FORMS)
@given(n=SIZES, c=st.integers(2, 5), chunk=st.integers(0, 4), cut=st.integers(1, 4), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_reader_goes_on_within_a_chunk(form, n, c, chunk, cut, seed):
    inputs = titans_inputs(seed, 2, n, c, 3, 4)
    chunk, cut = min(chunk, n - 1), min(cut, c - 1)
    state = inputs["state"]
    parts = [(slice(0, chunk), slice(0, c))] if chunk else []
    parts += [(slice(chunk, chunk + 1), slice(0, cut)), (slice(chunk, chunk + 1), slice(cut, c))]
    parts += [(slice(chunk + 1, n), slice(0, c))] if chunk + 1 < n else []
    reads: dict[int, list[Tensor]] = {}
    for chunks, cells in parts:
        piece = inputs | {key: x[:, chunks, cells] for key, x in inputs.items() if "_BNC" in key}
        # Only the last part of a chunk closes it, only the first opens it.
        piece["opens_BN"] = inputs["opens_BN"][:, chunks] & (cells.start == 0)
        piece["closes_BN"] = inputs["closes_BN"][:, chunks] & (cells.stop == c)
        read, state = call(form, piece | {"state": state})
        reads.setdefault(chunks.start, []).append(read)
    read = torch.cat([torch.cat(pieces, dim=2) for pieces in reads.values()], dim=1)
    assert_same([read, *state], leaves(call(form, inputs)))


@pytest.mark.parametrize("form", FORMS)
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_empty_cells_change_nothing(form, seed):
    inputs = titans_inputs(seed, 2, 3, 4, 3, 2)
    other = titans_inputs(seed + 1, 2, 3, 4, 3, 2)
    token_BNC = inputs["token_BNC"]
    changed = dict(inputs)
    for key in ("q_BNCK", "k_BNCK", "v_BNCV", "theta_BNC", "mu_BNC", "alpha_BNC"):
        mask = token_BNC if inputs[key].dim() == 3 else token_BNC.unsqueeze(-1)
        changed[key] = torch.where(mask, inputs[key], 7 * other[key])
    read, state = call(form, inputs)
    read_changed, state_changed = call(form, changed)
    assert_same([read_changed[token_BNC], *state_changed], [read[token_BNC], *state])
    empty = inputs | {"token_BNC": token_BNC & False, "opens_BN": inputs["opens_BN"] & False}
    assert_same(list(call(form, empty)[1][1:]), list(inputs["state"][1:]))


@pytest.mark.parametrize("form", FORMS)
def test_without_momentum_or_decay_it_is_the_delta_rule(form):
    inputs = delta_inputs(1, 3, 7, 4, 5) | {"gate_BT": torch.ones(3, 7, dtype=torch.float64)}
    names = {"q_BNCK": "q_BTK", "k_BNCK": "k_BTK", "v_BNCV": "v_BTV", "theta_BNC": "beta_BT"}
    cells = {name: inputs[key].unsqueeze(2) for name, key in names.items()}
    zeros_BNC = torch.zeros(3, 7, 1, dtype=torch.float64)
    state_BVK = inputs["state_BVK"]
    read, last = call(
        form,
        cells
        | {"mu_BNC": zeros_BNC, "alpha_BNC": zeros_BNC, "token_BNC": zeros_BNC == 0}
        | {"opens_BN": torch.zeros(1, 7, dtype=torch.bool), "closes_BN": torch.ones(1, 7, dtype=torch.bool)}
        | {"state": TitansState(state_BVK, state_BVK, 0 * state_BVK), "initial_BVK": state_BVK},
    )
    assert_same([read.squeeze(2), last.memory_BVK], list(call(delta_naive, inputs)))


@pytest.mark.parametrize("form", FORMS)
def test_states_stay_fp32_under_bf16_inputs_and_autocast(form):
    inputs = cast(titans_inputs(0, 2, 3, 4, 3, 4), torch.float32)
    expected = leaves(call(form, inputs))
    read, last = call(form, cast(inputs, torch.bfloat16))
    assert read.dtype == torch.bfloat16
    assert {x.dtype for x in last} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, leaves(call(form, inputs)), expected))
