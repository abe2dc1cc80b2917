"""Pretrained models: what is refused, in one line that quotes what was typed."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from families import FAMILIES, SIZES, saved_family

from ttt.models import memory, pretrained
from ttt.models.gated import gated_mlps
from ttt.models.hf import HfModel
from ttt.models.pretrained import Pretrained, load_pretrained, tokenizer_of


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture
def llama(models, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(saved_family("llama", models), tmp_path / "llama")


def refusal(name, *, revision=None, seq_len=64, vocab_size=100, dtype="float32", attention="auto"):
    """The line that opening such a model ends with."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        HfModel(
            name=str(name),
            revision=revision,
            dtype=dtype,
            attention=attention,
            window=None,
            cache_dir="/nowhere",
            vocab_size=vocab_size,
            seq_len=seq_len,
        )
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_names_and_paths(llama, tmp_path):
    assert "did you mean" in refusal(llama.parent / "lama")
    assert "OWNER/NAME" in refusal("no-such-model")
    assert "is a file" in refusal(llama / "config.json")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refusal(tmp_path / "empty")


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "model.name=owner/name: is not on this disk" in refusal("owner/name")


def test_pickles_are_never_read(llama):
    weights = llama / "model.safetensors"
    torch.save({"x": torch.zeros(1)}, llama / "pytorch_model.bin")
    weights.unlink()
    assert "pickle" in refusal(llama)


def test_damaged_weights(llama):
    (llama / "model.safetensors").write_bytes(b"no weights")
    assert "model.safetensors is damaged" in refusal(llama)


def test_foreign_code_never_runs(llama):
    """A config that points to Python code beside it is refused, and the code is not imported."""
    config = json.loads((llama / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (llama / "config.json").write_text(json.dumps(config))
    (llama / "own.py").write_text(f"open({str(llama / 'ran')!r}, 'w')")
    assert "never run" in refusal(llama)
    assert not (llama / "ran").exists()


def test_sizes(llama, monkeypatch):
    most = SIZES["max_position_embeddings"]
    assert f"{most} positions" in refusal(llama, seq_len=most + 1)
    assert "300 tokens" in refusal(llama, vocab_size=301)
    # The weights are weighed before they are read.
    monkeypatch.setattr(pretrained, "available_bytes", lambda: 1000)
    assert "of memory are free" in refusal(llama)


def test_free_memory_is_known_here():
    free = memory.available_bytes()
    assert free is None or free > 2**20


def test_layers_that_are_no_attention(llama):
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"layer_types": ["linear_attention"] * 3}))
    assert "linear_attention" in refusal(llama)


def test_the_tokenizer_of_a_model(llama):
    section = {"name": str(llama), "tokenizer": "model"}
    read = tokenizer_of(section, "/nowhere")
    assert read is not None
    assert json.loads(read())["model"]["type"] == "BPE"
    assert tokenizer_of({"name": "nano"}, "/nowhere") is None


@pytest.mark.parametrize("family", FAMILIES)
def test_gated_mlps_are_found_by_structure(family, models):
    which = Pretrained(str(saved_family(family, models)), revision=None, cache_dir="/nowhere")
    mlps = gated_mlps(load_pretrained(which, dtype=torch.float32, attention="auto"))
    assert [mlp.name for mlp in mlps] == [f"model.layers.{i}.mlp" for i in range(3)]
    assert {mlp.down.weight.shape for mlp in mlps} == {(32, 64)}


def test_a_model_without_gated_mlps_has_none():
    import transformers

    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    assert gated_mlps(transformers.AutoModelForCausalLM.from_config(config)) == []
