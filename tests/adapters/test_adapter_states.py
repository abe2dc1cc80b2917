"""What every adapter guarantees about its state: lifetime, precision, gradients, reading alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_adapters import FAST, MEMORIES, WITHIN, batch_of, make, name_of, read, tokens

from ttt.learner import Learner, slow_hash
from ttt.training.recipe import Recipe
from ttt.training.train import loss_of


@pytest.fixture(params=FAST, ids=name_of)
def learner(request: pytest.FixtureRequest) -> Learner:
    adapter, options = request.param
    return make(adapter, **options)


def test_states_stay_fp32_under_autocast(learner):
    learner.float()
    with torch.autocast("cpu", torch.bfloat16):
        logits, after = learner(batch_of(tokens(1)), learner.adapter.initial())
    assert logits.isfinite().all()
    assert {x.dtype for x in after.values()} == {torch.float32}


@pytest.mark.parametrize("adapter", MEMORIES)
@torch.no_grad()
def test_an_almost_empty_memory_reads_the_same_in_every_precision(adapter):
    """The norm of a read-out has a floor that does not depend on the precision."""
    logits = []
    for dtype in (torch.float64, torch.float32):
        learner = make(adapter)
        for block in learner.model.layers:
            # Values a thousand times smaller: with torch's default floor, the machine epsilon, fp32
            # and fp64 differ by more than 1.
            block.self_attn.memory.qkv_proj.weight[32:] *= 1e-3
        logits.append(read(learner.to(dtype), tokens(1)).double())
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=3e-4)


def test_an_evaluation_leaves_slow_weights_and_states_alone(learner):
    """Slow weights by their hash, and the state that a sequence starts from, bit for bit."""
    state = {name: x.clone() for name, x in learner.adapter.initial().items()}
    before = slow_hash(learner.model)
    learner.eval()
    with torch.no_grad():
        logits, after = learner(batch_of(tokens(1)), state)
    assert slow_hash(learner.model) == before
    assert not any(x.any() for x in state.values())
    assert any(x.any() for x in after.values())
    assert not any(x.requires_grad for x in [logits, *after.values()])
    assert all(parameter.grad is None for parameter in learner.model.parameters())


@pytest.mark.parametrize("learner", WITHIN, ids=name_of, indirect=True)
def test_writes_off_reads_the_state_and_keeps_it(learner):
    off, state = learner(batch_of(tokens(5)), learner.adapter.initial(), write=False)
    assert all(not x.any() for x in state.values())
    on, after = learner(batch_of(tokens(5)), learner.adapter.initial())
    assert not torch.equal(on, off)
    again, last = learner(batch_of(tokens(6)), after, write=False)
    assert not torch.equal(again, read(learner, tokens(6), write=False))
    assert all(torch.equal(last[name], x) for name, x in after.items())


@pytest.mark.parametrize("adapter", ["mlp_fast", "lora_fast", "sgd_fast"])
def test_writes_off_is_the_plain_model(adapter):
    """Bit for bit, where fast weights change layers of the model itself."""
    fast, plain = make(adapter), make("none")
    plain.model.load_state_dict(fast.model.state_dict(), strict=False)
    assert torch.equal(read(fast, tokens(5), write=False), read(plain, tokens(5)))


@pytest.mark.parametrize("adapter", MEMORIES)
def test_a_new_memory_is_silent(adapter):
    """A model with a new memory beside attention equals its base."""
    fast, plain = make(adapter), make("none")
    for name, parameter in fast.model.named_parameters():
        if name.endswith("memory.out_proj.weight"):
            torch.nn.init.zeros_(parameter)
    plain.model.load_state_dict(fast.model.state_dict(), strict=False)
    assert torch.equal(read(fast, tokens(5)), read(plain, tokens(5)))


def test_a_run_may_write_in_training_only():
    learner = make("mlp_fast", test_writes=False).eval()
    off, state = learner(batch_of(tokens(5)), learner.adapter.initial(), write=True)
    assert all(not x.any() for x in state.values())
    assert torch.equal(off, read(learner, tokens(5), write=False))
    assert not torch.equal(off, read(learner.train(), tokens(5)))


RULES = [
    {},
    {"rule": "ridge", "norm": "rows", "target": "next"},
    {"rule": "delta_whole", "step": 0.1, "momentum": 0.5},
    {"norm": "spectral", "source": "hidden_raw"},
]


@given(cut=st.integers(1, 5), seed=st.integers(0, 100), centre=st.booleans(), rule=st.sampled_from(RULES))
@settings(max_examples=25, deadline=None)
def test_a_carried_state_continues_the_sequence(cut, seed, centre, rule):
    """Without attention, two calls of whole chunks equal one call: the state holds everything."""
    learner = make(window=1, reset="never", carry="lane", centre=centre, **rule)
    x, at = tokens(seed), 4 * cut
    whole, last = learner(batch_of(x), learner.adapter.initial())
    first, state = learner(batch_of(x[:, :at]), learner.adapter.initial())
    second, end = learner(batch_of(x[:, at:]), learner.adapter.carry(state))
    # States are fp32, so the logits agree to fp32.
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    for name in last:
        torch.testing.assert_close(end[name], last[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adapter", sorted({adapter for adapter, _ in FAST}))
@pytest.mark.parametrize(("reset", "in_task", "next_task"), [("sequence", 0, 0), ("task", 1, 0), ("never", 1, 1)])
def test_lifetimes(adapter, reset, in_task, next_task):
    learner = make(adapter, reset=reset)

    def is_written() -> bool:
        return any(bool(x.any()) for x in learner.fast.values())

    assert not is_written()
    loss_of(learner, Recipe(), batch_of(tokens(6)), step=0)
    assert is_written() == in_task
    assert all(len(x) == 1 and not x.requires_grad for x in learner.fast.values())
    learner.begin_task()
    assert is_written() == next_task


@pytest.mark.parametrize(("carry", "lanes"), [("mean", 1), ("lane", 3)])
def test_carry_keeps_the_mean_or_every_lane(carry, lanes):
    learner = make(reset="task", carry=carry)
    _, after = learner(batch_of(tokens(7)), learner.adapter.initial())
    for name, x in learner.adapter.carry(after).items():
        expected = after[name] if carry == "lane" else after[name].mean(0, keepdim=True)
        assert x.shape[0] == lanes
        assert not x.requires_grad
        assert torch.equal(x, expected)


@pytest.mark.parametrize("learner", WITHIN, ids=name_of, indirect=True)
def test_all_parameters_get_a_gradient(learner):
    loss_of(learner, Recipe(), batch_of(tokens(9)), step=0).backward()
    for name, parameter in learner.model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
