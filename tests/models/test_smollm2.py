"""`model=smollm2`: the real weights of the package, where it is installed (make smollm2)."""

from __future__ import annotations

import argparse
import inspect
import json
import math
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from families import original
from tiny_adapters import build_adapter

from ttt.learner import Learner, cross_entropy
from ttt.models import smollm2
from ttt.models.hf import HfModel
from ttt.models.pretrained import tokenizer_of
from ttt.stream import Batch

pytestmark = [
    pytest.mark.skipif(find_spec(smollm2.PACKAGE) is None, reason="needs make smollm2"),
    # One process unpacks the weights once.
    pytest.mark.xdist_group("smollm2"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(cache):
    return HfModel(
        name="smollm2",
        revision=None,
        dtype="float32",
        attention="auto",
        window=None,
        cache_dir=str(cache),
        vocab_size=49152,
        seq_len=256,
    ).eval()


@pytest.fixture(scope="module")
def code(cache):
    """The first tokens of a Python module, and the bytes of text that they stand for."""
    import tokenizers

    section = {"name": "smollm2", "tokenizer": "model"}
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_of(section, str(cache))())
    encoding = tokenizer.encode(inspect.getsource(argparse))
    return torch.tensor([encoding.ids[:257]]), encoding.offsets[256][1]


@torch.no_grad()
def test_it_predicts_code_and_is_the_original(model, code, cache):
    """Far below the 15.6 bits of a uniform guess; the logits are those of transformers."""
    tokens_BT, size = code
    folder = smollm2.converted(cache)
    logits_BTV = model(tokens_BT[:, :-1])
    assert torch.equal(logits_BTV, original(folder)(tokens_BT[:, :-1]).logits)
    nats = torch.nn.functional.cross_entropy(logits_BTV[0], tokens_BT[0, 1:], reduction="sum")
    assert float(nats) / math.log(2) / size < 1.5


@torch.no_grad()
def test_fast_weights_attach_without_a_change(model, code, cache):
    tokens_BT = code[0][:, :64]
    batch = Batch(tokens_BT, tokens_BT.roll(-1, 1), torch.zeros_like(tokens_BT))
    plain_BTV = model(tokens_BT)
    options = {"seq_len": 64, "chunk": 16, "layers": "every=6"}
    learner = Learner(model, adapter=build_adapter("mlp_fast", **options), optimizer=None).eval()
    state = learner.adapter.initial()
    assert len(state) == 5
    assert torch.equal(learner(batch, state, write=False)[0], plain_BTV)
    written_BTV, _ = learner(batch, state)
    assert torch.equal(written_BTV[:, :16], plain_BTV[:, :16])
    assert bool(cross_entropy(written_BTV, batch, reduction="mean").isfinite())


def test_changed_files_are_noticed(cache, model):
    folder = smollm2.converted(cache)
    assert json.loads((folder / smollm2.MANIFEST).read_text()).keys() >= {"model.safetensors", "tokenizer.json"}
    file = Path(folder / "config.json")
    content = file.read_bytes()
    try:
        file.write_bytes(content + b" ")
        with pytest.raises(ValueError, match=r"config\.json has changed"):
            smollm2.converted(cache)
    finally:
        file.write_bytes(content)
