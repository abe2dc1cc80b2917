"""`model=hf`: tiny models of each family are read as transformers reads them, whole and in pieces."""

from __future__ import annotations

import copy

import pytest
import torch
from families import FAMILIES, VOCAB, original, saved_family
from tiny_adapters import build_adapter, defaults

from ttt.learner import Learner, Reader
from ttt.models.cache import Cache
from ttt.models.gated import gated_mlps
from ttt.models.hf import HfModel
from ttt.stream import Batch

# Sums of fp32 in another order; the logits themselves are of size one to ten.
CLOSE = {"rtol": 1e-4, "atol": 5e-5}
PIECES = (13, 1, 1, 10, 15)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("families")


@pytest.fixture(params=FAMILIES)
def folder(request, models):
    return saved_family(request.param, models)


def opened(folder, **changes):
    settings = {"revision": None, "dtype": "float32", "attention": "auto", "window": None, "cache_dir": str(folder)}
    settings |= {"vocab_size": VOCAB, "seq_len": 64} | changes
    return HfModel(name=str(folder), **settings).eval()


def fast(folder, adapter="mlp_fast", **options):
    if "seq_len" in defaults(adapter):
        options |= {"seq_len": 64}
    return Learner(opened(folder), adapter=build_adapter(adapter, **options), optimizer=None).eval()


def tokens(rows=3, length=40):
    return torch.randint(3, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))


def left_padded(x_BT, by):
    """Rows behind `by` tokens of padding, and their documents."""
    padding_BT = torch.zeros(len(x_BT), by, dtype=torch.long)
    return torch.cat([padding_BT, x_BT], 1), torch.cat([padding_BT - 1, torch.zeros_like(x_BT)], 1)


@torch.no_grad()
def test_the_model_is_the_original(folder):
    """Bit for bit; padding, documents, pieces and one row of a batch change only rounding."""
    model, x_BT = opened(folder), tokens()
    plain_BTV = original(folder)(x_BT).logits
    assert torch.equal(model(x_BT), plain_BTV)
    assert torch.equal(model(x_BT, segment_BT=torch.zeros_like(x_BT)), plain_BTV)
    cache = Cache()
    pieces_BTV = torch.cat([model(piece_BT, cache=cache) for piece_BT in x_BT.split(PIECES, 1)], 1)
    torch.testing.assert_close(pieces_BTV, plain_BTV, **CLOSE)
    padded_BT, segment_BT = left_padded(x_BT, 5)
    torch.testing.assert_close(model(padded_BT, segment_BT=segment_BT)[:, 5:], plain_BTV, **CLOSE)
    packed_BT = torch.cat([torch.zeros(3, 20), torch.ones(3, 20)], 1).long()
    apart_BTV = torch.cat([model(half_BT) for half_BT in x_BT.split(20, 1)], 1)
    torch.testing.assert_close(model(x_BT, segment_BT=packed_BT), apart_BTV, **CLOSE)


@torch.no_grad()
def test_an_imposed_window_forgets(folder):
    """A token outside the windows of all layers changes nothing, and pieces need no more than them."""
    model, x_BT = opened(folder, window=4), tokens(1)
    other_BT = x_BT.clone()
    other_BT[:, 3] = (other_BT[:, 3] + 1) % VOCAB
    layers = len(gated_mlps(model))
    changed_T = (model(x_BT) - model(other_BT)).abs().amax((0, 2))
    assert changed_T[3 + layers * 3 + 1 :].max() == 0
    assert changed_T[3:6].min() > 0
    cache = Cache()
    pieces_BTV = torch.cat([model(piece_BT, cache=cache) for piece_BT in x_BT.split(PIECES, 1)], 1)
    torch.testing.assert_close(pieces_BTV, model(x_BT), **CLOSE)
    assert max(x.shape[2] for name, x in cache.tensors.items() if name.endswith(".k")) == 3


@torch.no_grad()
def test_eager_attention_reads_the_same(folder):
    eager, x_BT = opened(folder, attention="eager"), tokens()
    padded_BT, segment_BT = left_padded(x_BT, 5)
    torch.testing.assert_close(
        eager(padded_BT, segment_BT=segment_BT), opened(folder)(padded_BT, segment_BT=segment_BT), **CLOSE
    )


@torch.no_grad()
def test_fast_weights_attach_and_the_original_comes_back(folder):
    """Writes off: the original, bit for bit. Writes on: another model, in rows and pieces alike."""
    x_BT, plain_BTV = tokens(), original(folder)(tokens()).logits
    batch = Batch(x_BT, x_BT, torch.zeros_like(x_BT))
    learner = fast(folder)
    assert len(learner.adapter.initial()) == len(gated_mlps(opened(folder)))
    off_BTV, _ = learner(batch, learner.adapter.initial(), write=False)
    on_BTV, _ = learner(batch, learner.adapter.initial())
    assert torch.equal(off_BTV, plain_BTV)
    assert torch.equal(on_BTV[:, :4], plain_BTV[:, :4])
    assert (on_BTV - plain_BTV)[:, 8:].abs().max() > 1e-3
    reader = Reader(learner)
    pieces_BTV = torch.cat([reader.read(piece_BT) for piece_BT in x_BT.split(PIECES, 1)], 1)
    torch.testing.assert_close(pieces_BTV, on_BTV, **CLOSE)
    # Unequal rows: each reads as it does alone, whatever stands beside it.
    padded_BT, segment_BT = left_padded(x_BT, 5)
    padded_BT[0], segment_BT[0] = padded_BT[1], 0
    beside_BTV, _ = learner(Batch(padded_BT, padded_BT, segment_BT), learner.adapter.initial())
    torch.testing.assert_close(beside_BTV[1:, 5:], on_BTV[1:], **CLOSE)


@pytest.mark.parametrize(
    "adapter", ["none", "lora_fast", "sgd_fast", "prompt_fast", "delta_fast", "titans_fast", "ttt_linear", "lact_fast"]
)
@torch.no_grad()
def test_other_adapters_fit(adapter, models):
    learner, x_BT = fast(saved_family("llama", models), adapter=adapter), tokens()
    batch = Batch(x_BT, x_BT, torch.zeros_like(x_BT))
    whole_BTV, _ = learner(batch, learner.adapter.initial())
    reader = Reader(learner)
    pieces_BTV = torch.cat([reader.read(piece_BT) for piece_BT in x_BT.split(PIECES, 1)], 1)
    torch.testing.assert_close(pieces_BTV, whole_BTV, rtol=1e-3, atol=1e-3)


def test_recomputed_blocks_have_the_same_gradient(models):
    """Blocks without fast weights keep only their inputs; those with fast weights are left alone."""
    x_BT, gradients = tokens(2, 16), []
    batch = Batch(x_BT, x_BT.roll(-1, 1), torch.zeros_like(x_BT))
    for recompute in (False, True):
        learner = fast(saved_family("qwen3", models), layers=[1]).train()
        if recompute:
            assert learner.model.recompute() == 2
        learner.score(batch, learner.adapter.initial(), own=2)[0].backward()
        gradients.append({name: p.grad for name, p in learner.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_only_changed_weights_are_saved(models):
    """Frozen weights that nothing touched are read again with the model."""
    model = opened(saved_family("llama", models))
    names = {name for name, _ in model.named_parameters()}
    assert not model.as_published()
    model.requires_grad_(False)
    assert model.as_published() == names
    changed = next(iter(names))
    with torch.no_grad():
        model.get_parameter(changed).mul_(1.0)
    assert model.as_published() == names - {changed}
    assert not copy.deepcopy(model).as_published()


def test_the_fingerprint_follows_the_weights(models, tmp_path):
    folder = saved_family("llama", models)
    before = opened(folder).fingerprint
    assert before == opened(folder).fingerprint
    model = original(folder)
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    model.save_pretrained(tmp_path / "other")
    assert opened(tmp_path / "other").fingerprint != before
