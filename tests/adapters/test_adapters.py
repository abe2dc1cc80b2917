"""What every adapter guarantees about reading: no leak; rows, documents and pieces do not mix."""

from __future__ import annotations

import pytest
import torch
from tiny_adapters import LENGTH, VARIANTS, VOCAB, build_adapter, defaults, make, name_of, read, tokens

from ttt.learner import Learner, Reader
from ttt.promises.reading import OF_ADAPTERS, ReadingCase, packed_documents

# With reset=task the documents of a row share their fast weights.
BY_DOCUMENT = [variant for variant in VARIANTS if variant[1].get("reset") not in ("task", "never")]


@pytest.fixture(params=VARIANTS, ids=name_of, scope="module")
def learner(request: pytest.FixtureRequest) -> Learner:
    """One learner per variant; tests only read with it."""
    adapter, options = request.param
    # This one writes otherwise in evaluations than in training.
    return make(adapter, **options).train(adapter != "ttt_ntp")


@pytest.fixture(scope="module")
def case(learner: Learner) -> ReadingCase:
    """What was read once serves all promises."""
    return ReadingCase(learner, tokens(1), chunk=defaults(learner.adapter.name).get("chunk"), tolerance=1e-4)


@pytest.mark.parametrize("promise", OF_ADAPTERS.values(), ids=lambda promise: promise.__name__)
def test_promises(case, promise):
    """What `ttt-check` tries on an adapter of one's own, of which broken ones are caught."""
    ruling = promise(case)
    assert ruling.holds is not False, ruling.why


def test_writes_reach_beyond_attention():
    """The control of the leak test: a token does change later chunks, outside the window."""
    learner, original = make(window=1), tokens(1)
    changed = original.clone()
    changed[:, 1] = (changed[:, 1] + 1) % VOCAB
    difference_T = (read(learner, original) - read(learner, changed)).abs().amax((0, 2))
    assert difference_T[2:4].max() == 0
    assert difference_T[4:].min() > 1e-6


@torch.no_grad()
def test_lanes_may_wait(learner):
    """Lanes that read different numbers of tokens at a time, with padding, read as if alone."""
    x = tokens(1)
    whole = read(learner, x)
    at, reader = torch.zeros(3, dtype=torch.long), Reader(learner)
    for counts in ([3, 0, 5], [1, 4, 0], [0, 6, 6], [7, 1, 2]):
        width = max(counts)
        piece, segment = torch.zeros(3, width, dtype=torch.long), torch.full((3, width), -1)
        for lane, n in enumerate(counts):
            piece[lane, :n], segment[lane, :n] = x[lane, at[lane] : at[lane] + n], 0
        logits = reader.read(piece, segment_BT=segment)
        for lane, n in enumerate(counts):
            expected = whole[lane, at[lane] : at[lane] + n]
            torch.testing.assert_close(logits[lane, :n], expected, rtol=1e-4, atol=1e-4)
            at[lane] += n


@pytest.mark.parametrize("learner", BY_DOCUMENT, ids=name_of, indirect=True, scope="module")
def test_documents_are_apart_wherever_they_do_not_share_a_state(learner):
    assert packed_documents(ReadingCase(learner, tokens(1))).holds


REFUSED = [
    ("mlp_fast", "chunk", 0),
    ("mlp_fast", "chunk", LENGTH),
    ("sgd_fast", "chunk", 1),
    ("lact_fast", "chunk", LENGTH),
    ("mlp_fast", "reset", "sometimes"),
    ("delta_fast", "carry", "lanes"),
    ("mlp_fast", "rule", "delt"),
    ("mlp_fast", "keys", "l1"),
    ("mlp_fast", "source", "embedding"),
    ("mlp_fast", "taps", 1),
    ("mlp_fast", "taps", 4),
    ("mlp_fast", "decay", 1.5),
    ("mlp_fast", "momentum", 1.0),
    ("mlp_fast", "step", 0.0),
    ("mlp_fast", "clip", 0.0),
    ("delta_fast", "heads", 0),
    ("titans_fast", "taps", 0),
    ("lact_fast", "expand", 0),
    ("ttt_mlp", "step", -1.0),
    ("lora_fast", "rank", 0),
    ("lora_fast", "scale", 0.0),
    ("lora_fast", "decay", -0.1),
    ("sgd_fast", "share", 0.0),
    ("prompt_fast", "vectors", 0),
    ("prompt_fast", "clip", -1.0),
]


@pytest.mark.parametrize(("adapter", "argument", "value"), REFUSED)
def test_a_value_that_cannot_work_is_refused(adapter, argument, value):
    with pytest.raises(ValueError, match=rf"^adapter\.{argument}={value}: "):
        build_adapter(adapter, **{argument: value})


@pytest.mark.parametrize("layers", [[], [0, 0], [2], [-1]])
@pytest.mark.parametrize("adapter", ["mlp_fast", "delta_fast"])
def test_layers_must_exist_and_differ(adapter, layers):
    with pytest.raises(ValueError, match=r"^adapter\.layers="):
        make(adapter, layers=layers)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"^adapter\.heads=5: .*16"):
        make("delta_fast", heads=5)
