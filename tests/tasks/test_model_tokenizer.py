"""Tokenizers of pretrained models: text comes back whole, in pieces as at once, byte for byte."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small_tokenizers as small
from assembling import config_of, refusal_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import build_source, shared_source
from texts import parts_of

from ttt.tasks.machinery import model_tokenizer
from ttt.tasks.machinery.model_tokenizer import ModelTokenizer

STYLES = {
    "gpt2": small.byte_level(),
    "gpt4": small.byte_level(small.WORDS),
    "llama": small.llama(),
    "unigram": small.unigram(),
}
CODERS = {name: ModelTokenizer(content) for name, content in STYLES.items()}
# What SentencePiece writes for a space comes back as one.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"))
SAMPLE = small.TEXT[:300] + "  \n\n\n\n x  y\n 漢字 🙂🙂\r\n\tend . \n" + small.END + "<s>a</s>\n"


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_tokens_are_the_text_and_stand_for_its_bytes(style, text):
    coder = CODERS[style]
    # A Unigram model takes "<s>" for its special token wherever it is spelled out.
    sample = SAMPLE.replace("<s>", "") if style == "unigram" else SAMPLE
    for each in (text, sample, text + sample):
        tokens = coder.encode(each)
        assert coder.decode(tokens.astype(np.int64)) == each
        assert coder.token_bytes[tokens].sum() == len(each.encode())
        assert not len(tokens) or tokens.max() < coder.vocab_size


@pytest.mark.parametrize("style", STYLES)
def test_pieces_of_a_text_have_the_tokens_of_the_whole(style, monkeypatch):
    whole = CODERS[style]._tokenizer.encode(SAMPLE * 3, add_special_tokens=False).ids
    assert CODERS[style].encode(SAMPLE * 3).tolist() == whole
    # Cut wherever a text may be cut.
    monkeypatch.setattr(model_tokenizer, "PIECE", 1)
    monkeypatch.setattr(model_tokenizer, "BATCH", 40)
    assert max(map(len, CODERS[style].batches(SAMPLE * 3))) > 5
    assert CODERS[style].encode(SAMPLE * 3).tolist() == whole


def test_single_lines_would_have_other_tokens():
    """The reason why text is not encoded line by line: a line break goes with indentation."""
    coder = CODERS["gpt2"]
    lines = [coder.encode(line) for line in SAMPLE.splitlines(keepends=True)]
    assert np.concatenate(lines).tolist() != coder.encode(SAMPLE).tolist()


@pytest.mark.parametrize(("style", "special"), [("gpt2", small.END), ("llama", "<s>"), ("unigram", "<s>")])
def test_special_tokens_are_no_text(style, special):
    coder = CODERS[style]
    number = coder._tokenizer.token_to_id(special)
    assert coder.token_bytes[number] == 0
    # None is put before a text, and one that a text spells out is characters.
    assert number not in coder.encode("plain")
    assert style == "unigram" or number not in coder.encode(f"a{special}b")


def test_tokens_of_lossy_tokenizers_have_no_number_of_bytes():
    assert ModelTokenizer(small.lower_case()).token_bytes is None


def test_a_large_vocabulary_takes_more_than_16_bits(tmp_path):
    source = build_source(
        "source=prose", tokenizer="model", cache_dir=str(tmp_path), model_tokenizer=lambda: small.large(290_000)
    )
    assert source.vocab_size == 290_000
    assert source._tokens.dtype == np.uint32
    tokens = source.evaluation(np.arange(2), rows=2, length=20).tokens_BT
    assert tokens.min() > 1 << 16
    plain = shared_source("source=prose").evaluation(np.arange(2), rows=2, length=20).tokens_BT.numpy()
    assert [source.show(row) for row in tokens.numpy()] == [shared_source("source=prose").show(row) for row in plain]


@pytest.mark.parametrize("style", ["gpt4", "llama"])
def test_a_source_in_the_tokens_of_a_model(style):
    source = build_source("source=prose", tokenizer="model", model_tokenizer=STYLES[style].__str__)
    plain = shared_source("source=prose")
    assert source.families() == plain.families()
    assert source.symbols == range(source.vocab_size)
    for (train, runs), (plain_train, plain_runs) in zip(parts_of(source), parts_of(plain), strict=True):
        assert source._coder.decode(train) == plain_train.tobytes().decode()
        assert [source._coder.decode(run) for run in runs] == [run.tobytes().decode() for run in plain_runs]


def test_data_and_fingerprint_depend_on_the_tokenizer(tmp_path):
    """Two tokenizers that give the same numbers are two tokenizers."""
    texts = [small.byte_level(), small.byte_level(end="<|end|>")]
    sources = [
        build_source("source=prose", tokenizer="model", cache_dir=str(tmp_path), model_tokenizer=text.__str__)
        for text in texts
    ]
    assert np.array_equal(sources[0]._tokens, sources[1]._tokens)
    assert sources[0].fingerprint != sources[1].fingerprint
    assert len(list((tmp_path / "data").glob("prose-model-*"))) == 2


def test_corpora_in_the_tokens_of_a_model():
    parts = {name: config_of(f"source={name}")["source"] | {"tokenizer": "model"} for name in ("prose", "tables")}
    joined = build_source("source=corpora", parts=parts, model_tokenizer=STYLES["gpt2"].__str__)
    assert joined.vocab_size == CODERS["gpt2"].vocab_size
    assert np.array_equal(joined.token_bytes, CODERS["gpt2"].token_bytes)
    (tokens_T,) = joined.evaluation(np.array([0]), rows=1, length=30).tokens_BT.numpy()
    runs = parts_of(shared_source("source=prose"))[0][1]
    assert any(CODERS["gpt2"].decode(tokens_T) in run.tobytes().decode() for run in runs)


def test_a_model_with_a_tokenizer_reads_its_own_tokens_by_default():
    assert config_of("source=prose")["source"]["tokenizer"] == "bytes"
    assert config_of("source=prose", "model=smollm2")["source"]["tokenizer"] == "model"
    parts = config_of("source=corpora", "model=smollm2")["source"]["parts"]
    assert {part["tokenizer"] for part in parts.values()} == {"model"}
    assert refusal_of("source=prose", "source.tokenizer=model").startswith("source.tokenizer=model: ")


def test_a_file_of_an_older_version_is_read():
    """`add_prefix_space` of Metaspace says what `prepend_scheme` says today."""
    content = json.loads(small.unigram())
    content["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    coder = ModelTokenizer(json.dumps(content))
    assert coder.decode(coder.encode("a b")) == "a b"
    assert coder.token_bytes[coder.encode("a b")].sum() == 3
