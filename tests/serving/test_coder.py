"""Text in parts of any size has the tokens of the whole text, from any place on."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import TEXT, WORDS, byte_level, llama

from ttt.serving import coder
from ttt.serving.coder import ByteCoder, TextCoder, TextPlace
from ttt.tasks.machinery.model_tokenizer import ModelTokenizer

KINDS = {"bytes": None, "byte level": (), "words": (WORDS,), "llama": "llama"}


@functools.cache
def tokenizer(kind):
    return ModelTokenizer(llama() if kind == "llama" else byte_level(*KINDS[kind]))


def new_coder(kind, place=None):
    place = place or TextPlace()
    if kind == "bytes":
        return ByteCoder(place)
    return TextCoder(place, encode=tokenizer(kind).encode, token_bytes=tokenizer(kind).token_bytes)


def whole(kind):
    return list(TEXT.encode()) if kind == "bytes" else tokenizer(kind).encode(TEXT).tolist()


def parts(data, sizes):
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(coder, "PIECE", 40)


@pytest.mark.parametrize("kind", KINDS)
@given(sizes=st.lists(st.integers(1, 90), max_size=40))
@settings(max_examples=15, deadline=None)
def test_parts_have_the_tokens_of_the_whole(kind, sizes):
    coder.PIECE, reading = 40, new_coder(kind)
    pieces = [piece for part in parts(TEXT.encode(), sizes) for piece in reading.feed(part)] + reading.close()
    assert [token for piece in pieces for token in piece.tokens.tolist()] == whole(kind)
    assert sum(int(piece.sizes.sum()) for piece in pieces) == len(TEXT.encode())


@pytest.mark.parametrize("kind", KINDS)
@given(stop=st.integers(1, 500), size=st.integers(1, 200))
@settings(max_examples=15, deadline=None)
def test_it_goes_on_from_any_token(kind, stop, size):
    coder.PIECE, data = 40, TEXT.encode()
    reading = new_coder(kind)
    pieces = reading.feed(data) + reading.close()
    place, before = TextPlace(), []
    while len(before) < stop:
        first, rest = pieces.pop(0).cut(stop - len(before))
        before += first.tokens.tolist()
        place = rest.place
    again = new_coder(kind, place)
    later = [x for i in range(place.start, len(data), size) for x in again.feed(data[i : i + size])] + again.close()
    assert before + [token for piece in later for token in piece.tokens.tolist()] == whole(kind)
    # Both continue to know where they are.
    assert later[-1].cut(10**6)[1].place == (pieces[-1] if pieces else rest).cut(10**6)[1].place


def test_a_text_without_words_is_cut_somewhere(monkeypatch):
    monkeypatch.setattr(coder, "MOST", 100)
    reading = new_coder("byte level")
    pieces = reading.feed(b"x" * 1000)
    assert max(len(piece.data) for piece in pieces) == 100
    assert sum(len(piece.data) for piece in pieces + reading.close()) == 1000


@pytest.mark.parametrize("at", [0, 1, 7, 100])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_is_no_text_is_refused_with_its_byte(at, size):
    data = ("é" * 200).encode()[: 2 * at] + b"\xff" + b"abc"
    reading = new_coder("byte level")

    def feed_all():
        for i in range(0, len(data), size):
            reading.feed(data[i : i + size])

    with pytest.raises(ValueError, match=f"byte {2 * at}: not UTF-8"):
        feed_all()


def test_half_a_character_at_the_end_is_refused():
    reading = new_coder("byte level")
    reading.feed("abcé".encode()[:-1])
    with pytest.raises(ValueError, match="byte 3: not UTF-8"):
        reading.close()


def test_any_bytes_are_text_for_a_byte_model():
    (piece,) = new_coder("bytes").feed(bytes(range(256)))
    assert np.array_equal(piece.tokens, np.arange(256))
