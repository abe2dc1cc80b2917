"""Text that arrives in parts of any size, as tokens; always the tokens that the whole text has.

bytes        every byte is a token
a tokenizer  UTF-8 is collected until a piece of some thousand characters ends between two words

A piece knows where it begins, so that a reader can stop inside it and go on in another process.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ttt.stream import Ints, Source, Textual

# Between two words, or at the beginning of a line: a tokenizer cuts there anyway.
CUT = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
# Characters of a piece; and the most that are collected where a text has no place to cut.
PIECE, MOST = 4096, 1 << 18


@dataclass(frozen=True)
class TextPlace:
    """Where a reader is in a text: `tokens` tokens behind the beginning of a piece at byte `start`.

    `digest`: a checksum of the text before `start`, by which the text is recognised.
    """

    start: int = 0
    tokens: int = 0
    digest: int = 0


@dataclass(frozen=True)
class Piece:
    """Tokens that are not read yet. `sizes`: the bytes of each; `place`: that of the first.

    `data`: the bytes behind `place.start`. With `is_bytes` a token is a byte.
    """

    tokens: Ints
    sizes: Ints
    place: TextPlace
    data: bytes
    is_bytes: bool

    def cut(self, count: int) -> tuple[Piece, Piece]:
        """At most the first `count` tokens, and the rest."""
        count = min(count, len(self.tokens))
        first = replace(self, tokens=self.tokens[:count], sizes=self.sizes[:count])
        place, data = self.place, self.data
        if self.is_bytes or count == len(self.tokens):
            data = data[count:] if self.is_bytes else b""
            before = self.data[: len(self.data) - len(data)]
            place = TextPlace(place.start + len(before), 0, zlib.crc32(before, place.digest))
        else:
            place = replace(place, tokens=place.tokens + count)
        return first, replace(self, tokens=self.tokens[count:], sizes=self.sizes[count:], place=place, data=data)


class Coder(Protocol):
    """Cuts one text into pieces; it begins at a place, of which the first `tokens` are left out."""

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that `data` completes. Raises ValueError for what is no text."""
        ...

    def close(self) -> list[Piece]:
        """What is left at the end of the text."""
        ...


class ByteCoder:
    """Every byte is a token; nothing is held back."""

    def __init__(self, place: TextPlace) -> None:
        assert place.tokens == 0, "every byte begins a piece"
        self._place = place

    def feed(self, data: bytes) -> list[Piece]:
        tokens = np.frombuffer(data, np.uint8).astype(np.int64)
        piece = Piece(tokens, np.ones_like(tokens), self._place, data, is_bytes=True)
        self._place = piece.cut(len(tokens))[1].place
        return [piece] if data else []

    def close(self) -> list[Piece]:
        return []


class TextCoder:
    """`encode`: text to tokens; `token_bytes`: bytes of each token [V], where they are fixed."""

    def __init__(self, place: TextPlace, *, encode: Callable[[str], Ints], token_bytes: Ints | None) -> None:
        self._encode, self._token_bytes = encode, token_bytes
        self._place, self._left_out = replace(place, tokens=0), place.tokens
        self._text, self._taken = "", place.start
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def feed(self, data: bytes) -> list[Piece]:
        # Bytes of a character that the last part has begun.
        held = len(self._decoder.getstate()[0])
        try:
            self._text += self._decoder.decode(data)
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {self._taken - held + error.start:,}: not UTF-8 ({error.reason})") from error
        self._taken += len(data)
        pieces = []
        while (end := self._end()) is not None:
            pieces.append(self._piece(end))
        return pieces

    def close(self) -> list[Piece]:
        if held := self._decoder.getstate()[0]:
            raise ValueError(f"byte {self._taken - len(held):,}: not UTF-8 (the text ends inside a character)")
        return [self._piece(len(self._text))] if self._text else []

    def _end(self) -> int | None:
        """Where the next piece ends; None: it is not complete."""
        match = CUT.search(self._text, PIECE)
        # A cut at the very end could be undone by the next character.
        if match is not None and match.start() + 2 <= len(self._text):
            return match.start()
        return MOST if len(self._text) > MOST else None

    def _piece(self, end: int) -> Piece:
        text, self._text = self._text[:end], self._text[end:]
        data, tokens = text.encode(), self._encode(text).astype(np.int64)
        if self._token_bytes is not None:
            sizes = self._token_bytes[tokens]
        else:
            # Only the bytes of the whole piece are sure.
            sizes = np.zeros_like(tokens)
            sizes[-1:] = len(data)
        piece = Piece(tokens, sizes, self._place, data, is_bytes=False)
        self._place = TextPlace(self._place.start + len(data), 0, zlib.crc32(data, self._place.digest))
        # Only the first piece can have been read in part.
        left_out, self._left_out = self._left_out, 0
        return piece.cut(left_out)[1] if left_out else piece


def coder_of(source: Source) -> Callable[[TextPlace], Coder]:
    """What makes a coder for texts as `source` has them.

    Raises ValueError for a source that is not made of text.
    """
    if source.token_bytes is not None and source.vocab_size == 256 and bool((source.token_bytes == 1).all()):
        return ByteCoder
    if not isinstance(source, Textual):
        raise ValueError(f"source={source.name}: reads no text; allowed: a source of running text, such as languages")
    encode, token_bytes = source.encode, source.token_bytes
    return lambda place: TextCoder(place, encode=encode, token_bytes=token_bytes)
