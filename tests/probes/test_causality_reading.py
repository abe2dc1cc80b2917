"""How the causality probe reads: where it flips, how much it reads, and that it leaves no trace."""

from __future__ import annotations

import pytest
import torch
from leaking import CHUNK, counting
from tiny_adapters import FAST, LENGTH, SMALLER, make, name_of, tokens

from ttt.learner import slow_hash
from ttt.probes import causality
from ttt.probes.causality import ProbeSizes, modes_of, probe_causality
from ttt.probes.flips import Passage, places


def test_places_are_the_ends_and_the_borders_of_chunks_first():
    assert places(24, chunk=8, count=24) == list(range(1, 25))
    assert places(24, chunk=8, count=5) == [1, 9, 17, 23, 24]
    assert {8, 9, 16, 17} <= set(places(24, chunk=8, count=9))
    # Without chunks, spread evenly.
    assert places(100, chunk=None, count=6) == [1, 20, 40, 60, 99, 100]
    assert places(1, chunk=None, count=9) == [1]


def test_flipped_tokens_differ_where_they_are_flipped_and_nowhere_else():
    text = Passage.of(tokens(1, rows=5))
    flip_RL = torch.rand(text.token_RL.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    assert torch.equal(text.flipped(flip_RL, vocab=11).token_RL != text.token_RL, flip_RL)


def test_large_models_read_less(monkeypatch):
    learner = make("mlp_fast", chunk=4, reset="task")
    parameters = sum(parameter.numel() for parameter in learner.parameters())
    whole = ProbeSizes.within(learner, length=LENGTH, chunk=4)
    assert whole.length == whole.places == LENGTH
    monkeypatch.setattr(causality, "WORK", parameters * 1000)
    less = ProbeSizes.within(learner, length=LENGTH, chunk=4)
    # The border of a chunk stays inside, and tokens that read what the chunk wrote.
    assert (less.length, less.places) == (12, 6)
    assert ProbeSizes.within(learner, length=LENGTH, chunk=4, places=9).places == 9
    assert less.rows * less.length * len(modes_of(learner)) < 1000


# The last variant of each adapter.
EACH = list({variant[0]: variant for variant in FAST}.values())


@pytest.mark.parametrize("variant", EACH, ids=name_of)
def test_a_probe_leaves_no_trace(variant):
    """Slow weights, gradients, buffers, fast state, modes of modules and random numbers stay."""
    adapter, options = variant
    learner = make(adapter, **options).float()
    learner.train()
    learner.model.layers[0].eval()
    learner.fast = {name: x + 0.01 for name, x in learner.adapter.initial().items()}
    fast = learner.fast
    before = _everything(learner)
    chunk = (SMALLER | options)["chunk"]
    for sizes in (ProbeSizes(LENGTH, 4, 4), ProbeSizes.brief(length=LENGTH, chunk=chunk)):
        probe_causality(learner, tokens(1, rows=2), chunk=chunk, sizes=sizes)
        assert _everything(learner) == before
        assert learner.fast is fast


def _everything(learner):
    tensors = [*learner.buffers(), *learner.fast.values(), torch.get_rng_state()]
    flags = [(name, module.training) for name, module in learner.named_modules()]
    gradients = [parameter.grad for parameter in learner.parameters()]
    places = [parameter.data_ptr() for parameter in learner.parameters()]
    return slow_hash(learner.model), [x.numpy().tobytes() for x in tensors], flags, gradients, places


def test_a_memory_that_starts_silent_is_heard():
    """Its output layer starts at zero, so that as it is it would move nothing, leak or not."""
    learner = make("delta_fast").float()
    silent = [layer.self_attn.memory.out_proj.weight for layer in learner.model.layers]
    for weight in silent:
        torch.nn.init.zeros_(weight)
    verdict = probe_causality(learner, tokens(1, rows=2), chunk=None, sizes=ProbeSizes(LENGTH, 4, 4))
    assert verdict.writes_move > 1e-4
    assert not any(weight.any() for weight in silent)


def test_carried_starts_from_what_the_stream_left():
    learner = counting()
    fresh = probe_causality(learner, tokens(1, rows=2), chunk=CHUNK, sizes=ProbeSizes(LENGTH, 4, 4))
    learner.fast = {"counts": 100 * torch.ones(3, 11)}
    later = probe_causality(learner, tokens(1, rows=2), chunk=CHUNK, sizes=ProbeSizes(LENGTH, 4, 4))
    assert later.writes_move > 4 * fresh.writes_move
