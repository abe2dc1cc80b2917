"""Writing on: what is drawn, when a lane ends, and that reading on is the same as at once."""

from __future__ import annotations

import pytest
import torch
from tiny_adapters import make, tokens

from ttt.learner import Reader, Sampling

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 3.0, 0.0]])


def naive(learner, prompt_1T, *, count, pick):
    """The whole sequence read anew for each token."""
    written = prompt_1T
    for _ in range(count):
        logits_1TV = Reader(learner).read(written)
        written = torch.cat([written, pick(logits_1TV[:, -1])[:, None]], 1)
    return written[:, prompt_1T.shape[1] :]


@pytest.mark.parametrize("adapter", ["none", "mlp_fast", "delta_fast"])
def test_each_lane_writes_what_reading_all_anew_gives(adapter):
    learner = make(adapter).eval()
    prompt_BT = tokens(0, rows=3, length=7)
    written_BT = Reader(learner).generate(prompt_BT, tokens=9)
    for row in range(3):
        expected = naive(learner, prompt_BT[row : row + 1], count=9, pick=lambda x: x.argmax(-1))
        assert written_BT[row].tolist() == expected[0].tolist()


def test_draws_are_those_of_the_seed():
    learner = make("mlp_fast").eval()
    prompt_1T = tokens(0, rows=1, length=7)
    sampling = Sampling(temperature=0.7, top_k=5, top_p=0.9, seed=3)
    generator = torch.Generator().manual_seed(3)
    expected = naive(learner, prompt_1T, count=9, pick=lambda x: sampling.pick(x, generator))
    assert Reader(learner).generate(prompt_1T, tokens=9, sampling=sampling).tolist() == expected.tolist()


def test_a_lane_ends_with_its_stop_and_changes_no_more():
    learner = make("mlp_fast").eval()
    prompt_BT = tokens(0, rows=3, length=7)
    free_BT = Reader(learner).generate(prompt_BT, tokens=9)
    stop = int(free_BT[0, 2])
    reader = Reader(learner)
    written_BT = reader.generate(prompt_BT, tokens=9, sampling=Sampling(stop=[stop]))
    for row in range(3):
        line = free_BT[row].tolist()
        end = line.index(stop) + 1 if stop in line else 9
        assert written_BT[row].tolist() == line[:end] + [-1] * (9 - end)
    alone = Reader(learner)
    alone.generate(prompt_BT[:1], tokens=written_BT[0].tolist().index(stop) + 1)
    for name, x in alone.export().items():
        if name.startswith("fast."):
            torch.testing.assert_close(reader.export()[name][:1], x)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1.0), LOGITS.softmax(-1)),
        (Sampling(temperature=2.0), (LOGITS / 2).softmax(-1)),
        (Sampling(temperature=1.0, top_k=1), torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0]])),
        (Sampling(temperature=1.0, top_p=0.05), torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0]])),
        (Sampling(temperature=1.0, top_p=1.0), LOGITS.softmax(-1)),
    ],
)
def test_what_is_drawn_from(sampling, expected):
    torch.testing.assert_close(sampling.probabilities(LOGITS), expected)


def test_top_p_keeps_the_least_set_that_is_enough():
    p_V = LOGITS[:1].softmax(-1)[0]
    kept = Sampling(temperature=1.0, top_p=float(p_V[0]) + 0.01).probabilities(LOGITS[:1])[0]
    torch.testing.assert_close(kept, torch.tensor([*(p_V[:2] / p_V[:2].sum()), 0.0, 0.0]))


@pytest.mark.parametrize(
    ("words", "key"), [({"temperature": -1.0}, "temperature"), ({"top_k": 0}, "top_k"), ({"top_p": 0.0}, "top_p")]
)
def test_what_cannot_be_is_refused(words, key):
    with pytest.raises(ValueError, match=f"{key}="):
        Sampling(**words)


@pytest.mark.parametrize("shape", [(7,), (1, 0), (0, 7), (1, 2, 3)])
def test_tokens_of_another_shape_are_refused_in_words(shape):
    with pytest.raises(ValueError, match=r"must be \[lanes, tokens\]"):
        Reader(make("none").eval()).read(torch.zeros(shape, dtype=torch.long))
