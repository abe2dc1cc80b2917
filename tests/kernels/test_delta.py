"""The forms of the delta rule agree with a loop by hand and with each other, gradients included."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import assert_same, call, cast, delta_inputs, outcome
from torch import Tensor

from ttt.kernels.delta.chunk import delta_chunk
from ttt.kernels.delta.naive import delta_naive

SIZES = st.integers(min_value=1, max_value=5)
SEEDS = st.integers(0, 1000)
FORMS = [delta_naive, delta_chunk]


def delta_by_hand(
    q_BTK: Tensor, *, k_BTK: Tensor, v_BTV: Tensor, beta_BT: Tensor, gate_BT: Tensor, state_BVK: Tensor
) -> tuple[Tensor, Tensor]:
    reads, states = [], []
    for q, k, v, beta, gate, state in zip(q_BTK, k_BTK, v_BTV, beta_BT, gate_BT, state_BVK, strict=True):
        memory = state
        for t in range(len(q)):
            memory = gate[t] * memory
            wrong = torch.mv(memory, k[t]) - v[t]
            memory = memory - beta[t] * torch.outer(wrong, k[t])
            reads.append(torch.mv(memory, q[t]))
        states.append(memory)
    return torch.stack(reads).view_as(v_BTV), torch.stack(states)


@given(b=SIZES, t=st.integers(1, 11), k=SIZES, v=SIZES, size=SIZES, seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_forms_agree(b, t, k, v, size, seed):
    inputs = delta_inputs(seed, b, t, k, v)
    expected = outcome(delta_naive, inputs)
    for form in (delta_by_hand, delta_chunk, partial(delta_chunk, size=size)):
        assert_same(outcome(form, inputs), expected)


@pytest.mark.parametrize("form", FORMS)
@given(t=st.integers(2, 11), cut=st.integers(1, 10), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_two_calls_equal_one(form, t, cut, seed):
    inputs = delta_inputs(seed, 2, t, 3, 4)
    cut = min(cut, t - 1)
    state = inputs["state_BVK"]
    reads = []
    for part in (slice(0, cut), slice(cut, t)):
        cells = {key: x[:, part] for key, x in inputs.items() if key != "state_BVK"}
        read, state = call(form, {**cells, "state_BVK": state})
        reads.append(read)
    assert_same([torch.cat(reads, dim=1), state], list(call(form, inputs)))


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_nothing(form):
    inputs = delta_inputs(3, 2, 9, 3, 4)
    padding = delta_inputs(4, 2, 9, 3, 4) | {"beta_BT": torch.zeros(2, 9), "gate_BT": torch.ones(2, 9)}
    expected, last = call(form, inputs)
    for order in ([inputs, padding], [padding, inputs]):
        both = {key: torch.cat([x[key] for x in order], dim=1).double() for key in inputs if key != "state_BVK"}
        read, after = call(form, both | {"state_BVK": inputs["state_BVK"]})
        tokens = read[:, :9] if order[0] is inputs else read[:, 9:]
        assert_same([tokens, after], [expected, last])


@pytest.mark.parametrize("form", FORMS)
def test_orthonormal_keys_are_stored_exactly(form):
    inputs = delta_inputs(0, 2, 6, 6, 4)
    keys = torch.linalg.qr(inputs["k_BTK"]).Q
    ones = torch.ones(2, 6, dtype=torch.float64)
    _, state = call(form, inputs | {"k_BTK": keys, "beta_BT": ones, "gate_BT": ones})
    assert_same([keys @ state.mT], [inputs["v_BTV"]])


@pytest.mark.parametrize("form", FORMS)
def test_states_stay_fp32_under_bf16_inputs_and_autocast(form):
    inputs = cast(delta_inputs(0, 2, 7, 3, 4), torch.float32)
    expected = call(form, inputs)
    read, last = call(form, cast(inputs, torch.bfloat16))
    assert (read.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, call(form, inputs), expected))


def test_tiny_gates_stay_finite_and_exact():
    inputs = cast(delta_inputs(0, 2, 64, 3, 4), torch.float32)
    inputs["gate_BT"] = torch.tensor([1.0, 1e-38, 1e-12, 0.0, 1e-45, 1.0, 0.5, 1e-12]).repeat(2, 8)
    assert_same(outcome(delta_chunk, inputs), outcome(delta_naive, inputs), rtol=1e-4)
