"""`adapter=cache` against loops over single tokens that follow the published equations.

Shapes: B lanes, T time, V vocabulary, D model width.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from families import SIZES, saved_family
from reference_loops import PACKED, PLAIN, close
from tiny_adapters import VOCAB, batch_of, build_adapter, make, tokens

from ttt.adapters import cache_mixture
from ttt.learner import Learner, Reader
from ttt.models.hf import HfModel

NGRAM = {"kind": "ngram", "order": 2, "escape": 0.7, "mix": 0.6}
NEURAL = {"kind": "neural", "sharpness": 5.0, "mix": 0.3}
# A read token: its id, whether it begins a document, and its hidden state.
Token = tuple[int, bool, torch.Tensor]


def values_of(past: list[Token], size: int, *, by_document: bool) -> list[int]:
    """Places of tokens that follow another one of their document, among the last `size`."""
    last, begun = len(past) - 1, start(past, len(past) - 1)
    places = range(max(last - size + 1, 1), len(past))
    return [k for k in places if not past[k][1] and (not by_document or k > begun)]


def start(past: list[Token], place: int) -> int:
    return max((k for k in range(place + 1) if past[k][1]), default=0)


def context(past: list[Token], end: int, n: int) -> tuple[int, ...] | None:
    """The n tokens that end at a place; None where their document has fewer."""
    first = end - n + 1
    return tuple(x[0] for x in past[first : end + 1]) if first >= start(past, end) else None


def ngram(past: list[Token], model_V: torch.Tensor, values: list[int]) -> torch.Tensor:
    """From no context to the longest one, each order falls back on the one before."""
    p_V = model_V
    for n in range(NGRAM["order"] + 1):
        here = context(past, len(past) - 1, n)
        counts = Counter(past[k][0] for k in values if here is not None and context(past, k - 1, n) == here)
        if counts:
            escape = NGRAM["escape"] * len(counts)
            count_V = torch.tensor([counts[w] for w in range(VOCAB)], dtype=torch.float64)
            p_V = (count_V + escape * p_V) / (count_V.sum() + escape)
    return p_V


def neural(past: list[Token], model_V: torch.Tensor, values: list[int]) -> torch.Tensor:
    query_D, total_V = past[-1][2], torch.zeros_like(model_V)
    for k in values:
        total_V[past[k][0]] += (NEURAL["sharpness"] * query_D @ past[k - 1][2]).exp()
    return total_V / total_V.sum() if values else model_V


def reference(learner, batch, options, *, size, reset, before=()):
    """Log-probabilities of the tokens that are not padding, lane after lane; and what was read."""
    heard = []
    handle = learner.model.norm.register_forward_hook(lambda module, args, out: heard.append(out))
    plain_BTV = learner.model(batch.tokens_BT, segment_BT=batch.segment_BT).softmax(-1)
    handle.remove()
    unit_BTD = heard[0] / heard[0].norm(dim=-1, keepdim=True)
    rows, read = [], []
    for b, segment_T in enumerate(batch.segment_BT.tolist()):
        past, last = list(before), None
        for t, segment in enumerate(segment_T):
            if segment < 0:
                continue
            past.append((int(batch.tokens_BT[b, t]), segment != last, unit_BTD[b, t]))
            last = segment
            values = values_of(past, size, by_document=reset == "sequence")
            cached_V = (ngram if options["kind"] == "ngram" else neural)(past, plain_BTV[b, t], values)
            rows.append(((1 - options["mix"]) * plain_BTV[b, t] + options["mix"] * cached_V).log())
        read.append(past)
    return torch.stack(rows), read


def few(seed, segment_BT):
    """Rows of few different tokens, so that contexts come again."""
    return batch_of(tokens(seed, *segment_BT.shape) % 3, segment_BT)


@pytest.mark.parametrize("segment_BT", [PLAIN, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize(("reset", "size"), [("sequence", 40), ("sequence", 6), ("task", 40), ("never", 6)])
@pytest.mark.parametrize("options", [NGRAM, NEURAL], ids=["ngram", "neural"])
@torch.no_grad()
def test_as_published(monkeypatch, options, reset, size, segment_BT):
    monkeypatch.setattr(cache_mixture, "PAIRS", 7 * 48)
    learner, batch = make("cache", size=size, reset=reset, **options), few(6, segment_BT)
    want_XV, _ = reference(learner, batch, options, size=size, reset=reset)
    got_BTV, _ = learner(batch, learner.adapter.initial())
    close(got_BTV[segment_BT >= 0], want_XV)


@pytest.mark.parametrize("size", [200, 9])
@pytest.mark.parametrize("options", [NGRAM, NEURAL], ids=["ngram", "neural"])
@torch.no_grad()
def test_lanes_share_what_they_carry(options, size):
    """The next batch reads the same share of the newest tokens of each lane, after older ones."""
    learner, before = make("cache", size=size, reset="never", **options), []
    state = learner.adapter.initial()
    places = state["tokens"].shape[1]
    for seed in (1, 2, 3):
        batch = few(seed, PACKED)
        want_XV, read = reference(learner, batch, options, size=size, reset="never", before=before)
        got_BTV, after = learner(batch, state)
        close(got_BTV[PACKED >= 0], want_XV, atol=1e-5)
        state = learner.adapter.carry(after)
        shares = [past[len(before) :][-(places // len(read)) :] for past in read]
        newest = [(word, k == 0 or begins, h) for share in shares for k, (word, begins, h) in enumerate(share)]
        before = [*before, *newest][-places:]


@torch.no_grad()
def test_nothing_to_find_leaves_the_model():
    """The first token of a document has no context that was read before."""
    learner, batch = make("cache", **NGRAM, size=9), few(4, PLAIN)
    off_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
    on_BTV, _ = learner(batch, learner.adapter.initial())
    close(on_BTV[:, 0], off_BTV[:, 0].log_softmax(-1))
    assert (on_BTV[:, 2:] - off_BTV[:, 2:].log_softmax(-1)).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("options", [NGRAM, NEURAL], ids=["ngram", "neural"])
def test_fixed_numbers_are_not_learned(options):
    learner = make("cache", size=9, learn_mix=False, **options)
    assert not any(p.requires_grad for name, p in learner.model.named_parameters() if name.startswith("mixture"))


@pytest.mark.parametrize("options", [NGRAM, NEURAL], ids=["ngram", "neural"])
@torch.no_grad()
def test_a_pretrained_model(tmp_path, options):
    """A model of transformers, whole and in pieces; probabilities sum to one."""
    folder = saved_family("llama", tmp_path)
    settings = {"revision": None, "dtype": "float32", "attention": "auto", "window": None, "cache_dir": "."}
    model = HfModel(name=str(folder), vocab_size=SIZES["vocab_size"], seq_len=64, **settings).eval()
    learner = Learner(model, adapter=build_adapter("cache", size=12, **options), optimizer=None)
    x_BT = 3 + tokens(1, rows=2)
    whole_BTV, _ = learner(batch_of(x_BT), learner.adapter.initial())
    close(whole_BTV.exp().sum(-1), torch.ones_like(whole_BTV[..., 0]))
    assert (whole_BTV - model(x_BT).log_softmax(-1)).abs().max() > 0.1
    reader = Reader(learner)
    pieces_BTV = torch.cat([reader.read(piece_BT) for piece_BT in x_BT.split([5, 1, 18], 1)], 1)
    close(pieces_BTV, whole_BTV, rtol=1e-3, atol=1e-3)
