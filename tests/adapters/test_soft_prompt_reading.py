"""Soft prompts are read as the plain model with vectors added; their state starts at zero.

Shapes: K prompts, P prompt, D model width.
"""

from __future__ import annotations

import pytest
import torch
from small_policy import soft_policy

from ttt.adapters.evolving import Evolving
from ttt.config.identity import base_adapter
from ttt.learner import Reader
from ttt.learner.engine import merges_lanes
from ttt.prompts.vectors import predict


@pytest.fixture(scope="module")
def policy():
    """A policy that the tests only read."""
    return soft_policy()


@pytest.fixture(scope="module")
def batch(policy):
    return policy.tasks[0].evaluation()


@pytest.fixture(scope="module")
def state(policy):
    return policy.adapter.holding(policy.random_prompts()[0])


def plain_logits(policy, batch):
    return policy.model(batch.tokens_BT, segment_BT=batch.segment_BT)


@pytest.mark.parametrize("window", ["null", "4"])
def test_nothing_written_is_the_plain_model_bit_for_bit(window):
    """Whole rows are, and tokens read one by one, also where a window is shorter than a row."""
    policy = soft_policy(f"model.window={window}")
    learner, batch, state = policy.learner, policy.tasks[0].evaluation(), policy.adapter.initial()
    plain = plain_logits(policy, batch)
    assert torch.equal(learner(batch, state, write=True)[0], plain)
    # Vectors of zeros take the path through the hook, and change no bit either.
    zeros = state["prompt"][0, [0] * len(batch.tokens_BT)]
    assert torch.equal(predict(policy.model, batch.tokens_BT, zeros), policy.model(batch.tokens_BT))
    reader = Reader(learner)
    one_by_one = torch.cat([reader.read(batch.tokens_BT[:, t : t + 1]) for t in range(batch.tokens_BT.shape[1])], 1)
    torch.testing.assert_close(one_by_one, plain.detach(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_vectors_are_added_to_the_embeddings_of_the_seed_prompt(policy, batch, state):
    """Compare with the plain model, after giving it the summed embeddings as new words."""
    model, prompt, tokens = policy.model, policy.random_prompts()[0], batch.tokens_BT.clone()
    logits, after = policy.learner(batch, state)
    x = model.embed_tokens(batch.tokens_BT)
    x[:, : prompt.shape[0]] += prompt
    assert not torch.allclose(logits, model(batch.tokens_BT))
    new_words = torch.arange(x.shape[0] * x.shape[1]).view(x.shape[:2])
    table = torch.cat([x.flatten(0, 1), model.embed_tokens.weight])
    weights = policy.weights() | {"embed_tokens.weight": table}
    wide = torch.func.functional_call(model, weights, (new_words,), {"segment_BT": batch.segment_BT})
    # The new words come first in the table, and so do their logits.
    torch.testing.assert_close(logits, wide[..., new_words.numel() :], rtol=1e-5, atol=1e-5)
    assert torch.equal(batch.tokens_BT, tokens)
    assert all(torch.equal(after[name], y) for name, y in state.items())


@pytest.mark.parametrize("pieces", [[3, 1, 1, 1, 1, 1, 1, 1], [7, 1, 1, 1], [2, 8]])
def test_reading_in_pieces_is_reading_at_once(batch, state, pieces):
    """The first piece holds the prompt; behind it, tokens may come one by one."""
    # A learner of its own, because `double` changes it in place; fp64 leaves only rounding.
    learner = soft_policy().learner.double()
    exact = {name: x.double() for name, x in state.items()}
    whole, _ = learner(batch, exact)
    assert sum(pieces) == batch.tokens_BT.shape[1]
    reader, read, at = Reader(learner, state=exact), [], 0
    for length in pieces:
        read.append(reader.read(batch.tokens_BT[:, at : at + length]))
        # A new reader goes on from what the old one exported.
        exported, reader, at = reader.export(), Reader(learner), at + length
        reader.restore(exported)
    torch.testing.assert_close(torch.cat(read, 1), whole.detach(), rtol=1e-5, atol=1e-6)


def test_a_piece_with_half_a_prompt_is_refused(policy, batch, state):
    with pytest.raises(AssertionError, match="whole prompt"):
        Reader(policy.learner, state=state).read(batch.tokens_BT[:, :1])


def test_rows_with_another_prompt_keep_it(policy, batch, state):
    tokens = batch.tokens_BT.clone()
    tokens[0, 0] = next(word for word in policy.layout.words if word != tokens[0, 0])
    mixed = batch._replace(tokens_BT=tokens)
    logits, _ = policy.learner(mixed, state)
    plain = plain_logits(policy, mixed)
    assert torch.equal(logits[0], plain[0])
    assert not torch.equal(logits[1], plain[1])


def test_a_state_is_zero_before_anything_is_written(policy):
    state = policy.adapter.initial()
    assert isinstance(policy.adapter, Evolving)
    assert {x.dtype for x in state.values()} == {torch.float32}
    assert all(len(x) == 1 and not x.any() for x in state.values())
    assert policy.adapter.emitted(state).shape == (4, 2, 16)
    assert merges_lanes(policy.adapter)
    assert base_adapter({"name": "soft_prompt", "base": "none"})["name"] == "none"


def test_diagnostics_by_hand():
    policy = soft_policy("adapter.emit=2")
    state = policy.adapter.initial()
    fresh = policy.adapter.diagnostics(state)
    assert (fresh["norm"], fresh["distance"], fresh["steps"]) == (0, 0, 0)
    assert fresh["best_record"] != fresh["best_record"]
    state["prompt"][0, 0, 0, 0], state["record"][0, 0], state["steps"][0] = 3.0, 0.5, 7
    # Lengths are in units of an embedding: its standard deviation times sqrt(16).
    unit = float(policy.model.embed_tokens.weight.detach().std()) * 4
    # One of 2 x 2 vectors has length 3; the two prompts differ in one vector of two.
    expected = {"norm": 0.75 / unit, "distance": 1.5 / unit, "best_record": 0.5, "steps": 7}
    assert policy.adapter.diagnostics(state) == pytest.approx(expected)


@pytest.mark.parametrize(("reset", "survives"), [("task", False), ("never", True)])
def test_lifetimes(reset, survives):
    policy = soft_policy(f"adapter.reset={reset}", "task.announced=true")
    policy.steps(1)
    assert policy.learner.fast["prompt"].any()
    policy.learner.begin_task()
    assert bool(policy.learner.fast["prompt"].any()) == survives
