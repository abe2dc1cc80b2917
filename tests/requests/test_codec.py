"""Texts as the tokens of a run: nothing is lost, and pretrained models get what transformers gives."""

from __future__ import annotations

import pytest
from assembling import assembled, config_of
from pretrained_runs import QUICK, tiny_pretrained

from ttt.requests.codec import ModelCodec, SourceCodec, codec_of

TEXT = "def f(x):\n\treturn x  # ça va\n\n"


def codec(*words):
    assembly = assembled("task.num_tasks=2", *words)
    return codec_of(assembly.source, assembly.config, ends=[7])


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe-300"])
def test_a_source_gives_back_every_character(tokenizer):
    coder = codec("source=prose", f"source.tokenizer={tokenizer}")
    assert isinstance(coder, SourceCodec)
    assert coder.decode(coder.encode(TEXT)) == TEXT
    assert coder.decode([coder.prefix]) == "\n"
    assert not coder.ends


def test_bytes_measure_the_texts_of_tasks(tmp_path):
    transformers = pytest.importorskip("transformers")
    assert codec("source=prose", "source.tokenizer=bytes").save(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer(TEXT).input_ids) == len(TEXT.encode())


def test_a_pretrained_model_has_its_own_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = tiny_pretrained(tmp_path)
    coder = codec(*QUICK, f"model.name={folder}", "adapter=none")
    assert isinstance(coder, ModelCodec)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert coder.encode(TEXT) == tokenizer.encode(TEXT)
    assert coder.encode(TEXT, special=False) == tokenizer.encode(TEXT, add_special_tokens=False)
    assert coder.ends == {7}
    own = codec(*QUICK, f"model.name={folder}", "adapter=none", "source.tokenizer=bytes")
    assert isinstance(own, SourceCodec)


def test_what_is_no_text_is_refused():
    with pytest.raises(ValueError, match="source=recall"):
        codec("source=recall")
    assert "tokenizer" not in config_of("source=recall")["source"]
