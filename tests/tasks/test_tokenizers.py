"""Tokenizers: text comes back whole, and a BPE is trained on train parts alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import build_source, shared_source
from texts import parts_of, prose

from ttt.tasks.machinery.tokenizers import BpeTokenizer, ByteTokenizer, train_bpe, visible


@pytest.fixture(scope="module")
def bpe():
    return shared_source("source=prose", "source.tokenizer=bpe-512")


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_tokens_are_the_text(text, bpe):
    for coder in (ByteTokenizer(), bpe._coder):
        tokens = coder.encode(text)
        assert coder.decode(tokens.astype(np.int64)) == text
        assert not len(tokens) or tokens.max() < coder.vocab_size


def test_bpe_cuts_the_same_text_into_fewer_tokens(bpe):
    plain = shared_source("source=prose")
    assert bpe.vocab_size == 512
    assert bpe.symbols == range(512)
    assert bpe.families() == plain.families()
    assert bpe.rows["train tokens"] < 0.6 * plain.rows["train tokens"]
    for (train, runs), (plain_train, plain_runs) in zip(parts_of(bpe), parts_of(plain), strict=True):
        assert bpe._coder.decode(train) == plain_train.tobytes().decode()
        assert [bpe._coder.decode(run) for run in runs] == [run.tobytes().decode() for run in plain_runs]


def test_bpe_is_trained_on_train_parts_alone(tmp_path):
    """Other eval parts change the fingerprint only; another train part changes symbols."""

    def symbols(cache, train, held_out):
        for name in ("a", "b"):
            (tmp_path / cache / "text" / name).mkdir(parents=True)
            (tmp_path / cache / "text" / name / "1.txt").write_text(train + f"{name}\n" + held_out)
        changes = {"path": str(tmp_path / cache / "text"), "cache_dir": str(tmp_path / cache)}
        source = build_source("source=text", tokenizer="bpe-400", eval_share=0.2, **changes)
        return source._coder._tokenizer.to_str(), source.fingerprint

    train = prose(2000, seed=1)
    first = symbols("first", train, "zebra quagga\n" * 140)
    second = symbols("second", train, "oxbow zigzag\n" * 140)
    third = symbols("third", prose(2000, seed=2).replace("the", "thy"), "zebra quagga\n" * 140)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert first[0] != third[0]
    assert "zebr" not in first[0]


def test_bpe_depends_on_the_text_alone():
    lines = prose(3000)
    assert train_bpe([lines], symbols=400) == train_bpe(lines.splitlines(keepends=True), symbols=400)
    tokens = BpeTokenizer(train_bpe(["ab"], symbols=300), vocab_size=300)
    # Too little text for so many symbols.
    assert tokens.decode(tokens.encode("ab\n")) == "ab\n"


def test_tokens_are_shown_as_text():
    assert visible("a\tb\r\n\0\x7f") == "a␉b␍⏎␀␡"
    assert shared_source("source=prose").show(np.array([195, 169, 10, 195])) == "é⏎�"


@pytest.mark.parametrize("tokenizer", ["byte", "bpe", "bpe-", "bpe-299", "bpe-65001", "bpe-1k", "gpt2", ""])
def test_unknown_tokenizers_are_refused(tokenizer):
    with pytest.raises(ValueError, match=rf"^source\.tokenizer={tokenizer}: .*300") as error:
        build_source("source=prose", tokenizer=tokenizer)
    assert "\n" not in str(error.value)
