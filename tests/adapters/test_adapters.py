"""What every adapter guarantees about reading: no leak; rows, documents and pieces do not mix."""

from __future__ import annotations

import pytest
import torch
from tiny_adapters import LENGTH, VARIANTS, VOCAB, batch_of, build_adapter, make, name_of, read, tokens

from ttt.learner import Learner, Reader

# Two documents in a row, and pieces that end at, before and behind the edges of chunks.
PIECES = [[24], [1] * 24, [3, 5, 1, 1, 6, 8], [4, 4, 16], [20, 1, 1, 1, 1], [11, 13]]
TWO_DOCUMENTS = torch.tensor([[0] * 10 + [1] * 14] * 3)
# With reset=task the documents of a row share their fast weights.
BY_DOCUMENT = [variant for variant in VARIANTS if variant[1].get("reset") not in ("task", "never")]


@pytest.fixture(params=VARIANTS, ids=name_of, scope="module")
def learner(request: pytest.FixtureRequest) -> Learner:
    """One learner per variant; tests only read with it."""
    adapter, options = request.param
    # This one writes otherwise in evaluations than in training.
    return make(adapter, **options).train(adapter != "ttt_ntp")


@torch.no_grad()
def test_no_leak(learner):
    """Changing token t leaves the scores of all earlier positions equal, bit for bit."""
    original = tokens(1)
    before = read(learner, original)
    for t in (0, 3, 4, 11, LENGTH - 1):
        changed = original.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB
        after = read(learner, changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.equal(before[:, t:], after[:, t:])


def test_writes_reach_beyond_attention():
    """The control of the leak test: a token does change later chunks, outside the window."""
    learner, original = make(window=1), tokens(1)
    changed = original.clone()
    changed[:, 1] = (changed[:, 1] + 1) % VOCAB
    difference_T = (read(learner, original) - read(learner, changed)).abs().amax((0, 2))
    assert difference_T[2:4].max() == 0
    assert difference_T[4:].min() > 1e-6


@pytest.mark.parametrize("documents", [1, 2])
@torch.no_grad()
def test_reading_in_pieces_is_reading_at_once(learner, documents):
    """Prefill and decoding by token and by piece, where each piece has a reader of its own."""
    x = tokens(1)
    segment_BT = TWO_DOCUMENTS if documents == 2 else torch.zeros_like(x)
    whole, _ = learner(batch_of(x, segment_BT), learner.adapter.initial())
    for pieces in PIECES:
        reader, logits, at = Reader(learner), [], 0
        for n in pieces:
            logits.append(reader.read(x[:, at : at + n], segment_BT=segment_BT[:, at : at + n]))
            exported, reader, at = reader.export(), Reader(learner), at + n
            reader.restore(exported)
        # States are fp32, so the logits agree to fp32.
        torch.testing.assert_close(torch.cat(logits, 1), whole, rtol=1e-4, atol=1e-4)


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


@torch.no_grad()
def test_padding_changes_nothing(learner):
    x = tokens(1)
    whole, after = learner(batch_of(x), learner.adapter.initial())
    for left, right in ((3, 0), (0, 2), (5, 4)):
        inside = slice(left, left + LENGTH)
        padded = torch.zeros(3, left + LENGTH + right, dtype=torch.long)
        segment = torch.full_like(padded, -1)
        padded[:, inside], segment[:, inside] = x, 7
        logits, last = learner(batch_of(padded, segment), learner.adapter.initial())
        torch.testing.assert_close(logits[:, inside], whole, rtol=1e-4, atol=1e-5)
        for name, expected in after.items():
            torch.testing.assert_close(last[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learner", BY_DOCUMENT, ids=name_of, indirect=True, scope="module")
@torch.no_grad()
def test_packed_documents_equal_separate_ones(learner):
    a, b = tokens(2, rows=1, length=10), tokens(3, rows=1, length=14)
    packed, _ = learner(batch_of(torch.cat([a, b], 1), TWO_DOCUMENTS[:1]), learner.adapter.initial())
    for part, document in ((packed[:, :10], a), (packed[:, 10:], b)):
        torch.testing.assert_close(part, read(learner, document), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_rows_of_a_batch_do_not_touch(learner):
    x = tokens(4, rows=2)
    both = read(learner, x)
    for row in range(2):
        torch.testing.assert_close(both[row : row + 1], read(learner, x[row : row + 1]), rtol=1e-5, atol=1e-6)


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
