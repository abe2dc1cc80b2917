"""Text to tokens and back.

    bytes      "héllo\\n" -> 104 195 169 108 108 111 10
    bpe-1024   "A class is a type.\\n" -> 32 396 292 261 433 13 198     A| class| is| a| type|.|\\n

bpe-N is a byte-level BPE of N symbols, trained on the train parts of one source. The tokenizer of a
pretrained model is in ttt.tasks.machinery.model_tokenizer.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ttt.stream import Ints
from ttt.tasks.machinery.token_bytes import token_bytes

if TYPE_CHECKING:
    import tokenizers

Tokens = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]
# Below, 256 bytes leave next to nothing for merges; above, a token does not fit into 16 bits.
BPE_SYMBOLS = range(300, 65_001)
# Unicode has a picture of each control character, this far from the character itself.
PICTURES = 0x2400


class Tokenizer(Protocol):
    """`decode(encode(text)) == text`, for all texts that a tokenizer does not normalise.

    Tokens lie below `vocab_size`. `token_bytes`: how many bytes of UTF-8 each token stands for [V],
    None where the tokenizer changes texts.
    """

    vocab_size: int
    token_bytes: Ints | None

    def encode(self, text: str) -> Tokens: ...

    def decode(self, tokens: Ints | Tokens) -> str:
        """Return tokens as text; bytes that form no character become U+FFFD."""
        ...


class ByteTokenizer:
    """A token is a byte of UTF-8."""

    vocab_size = 256
    token_bytes: Ints | None = np.ones(256, dtype=np.int64)

    def encode(self, text: str) -> Tokens:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)

    def decode(self, tokens: Ints | Tokens) -> str:
        return bytes(np.asarray(tokens).tolist()).decode("utf-8", errors="replace")


class LibraryTokenizer(ABC):
    """A tokenizer of the `tokenizers` library; `batches` says in which pieces it reads a text."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._tokenizer = tokenizer
        self._dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
        self.token_bytes = token_bytes(tokenizer, vocab_size=vocab_size)

    @abstractmethod
    def batches(self, text: str) -> Iterator[Sequence[str]]:
        """Yield lists of pieces, which make up the text and are encoded one by one."""

    def encode(self, text: str) -> Tokens:
        # The empty array gives an empty text its type.
        parts = [np.empty(0, self._dtype)]
        for batch in self.batches(text):
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            parts += [np.array(encoding.ids, dtype=self._dtype) for encoding in encodings]
        return np.concatenate(parts)

    def decode(self, tokens: Ints | Tokens) -> str:
        return str(self._tokenizer.decode(np.asarray(tokens).tolist(), skip_special_tokens=False))


class BpeTokenizer(LibraryTokenizer):
    """A tokenizer from what `train_bpe` returned; text is encoded line by line, as it was trained.

    `vocab_size` is the number that was typed, even where the text had too little for so many.
    """

    def __init__(self, content: str, *, vocab_size: int) -> None:
        # Imported here: it takes time that `ttt-run --help` need not spend.
        import tokenizers

        super().__init__(tokenizers.Tokenizer.from_str(content), vocab_size=vocab_size)

    def batches(self, text: str) -> Iterator[Sequence[str]]:
        yield text.splitlines(keepends=True)


def train_bpe(texts: Iterable[str], *, symbols: int) -> str:
    """Train a byte-level BPE of at most `symbols` symbols and return it as JSON.

    The result depends on the texts alone. (Sennrich et al. 2016, arXiv 1508.07909; over bytes as in
    GPT-2.)
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # All 256 bytes are symbols from the start, so that any text can be encoded.
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=symbols, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((line for text in texts for line in text.splitlines(keepends=True)), trainer)
    return tokenizer.to_str()


def bpe_symbols(name: str) -> int | None:
    """Return the N of `bpe-N`, None for `bytes` and `model`. Raises ValueError for other names."""
    if name in ("bytes", "model"):
        return None
    match = re.fullmatch(r"bpe-(\d{1,9})", name)
    if match is None or int(match[1]) not in BPE_SYMBOLS:
        raise ValueError(
            f"source.tokenizer={name}: must be bytes, model (that of a pretrained model), or bpe-N with N from "
            f"{BPE_SYMBOLS[0]} to {BPE_SYMBOLS[-1]}"
        )
    return int(match[1])


def visible(text: str) -> str:
    """Return text with pictures for control characters, and ⏎ for a line break."""
    # DEL is no neighbour of the others; its picture is U+2421.
    pictures = {code: PICTURES + code for code in range(32)} | {127: PICTURES + 33, ord("\n"): ord("⏎")}
    return text.translate(pictures)
