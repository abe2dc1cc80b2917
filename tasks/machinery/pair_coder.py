"""A prompt and its answer as tokens: side by side, or as a model's chat template has them.

separator "\\n", end "\\n"   Capital of France?\\n | Paris\\n
chat                       <|im_start|>user Capital of France?<|im_end|> ... | Paris<|im_end|>
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ttt.stream import Ints
from ttt.tasks.machinery.model_tokenizer import ModelTokenizer, read_tokenizer
from ttt.tasks.machinery.tokenizers import BpeTokenizer, ByteTokenizer, Tokenizer, bpe_symbols, train_bpe


class Coded(NamedTuple):
    """The tokens of a prompt and of its answer."""

    prompt: Ints
    answer: Ints


class Chat(Protocol):
    """The chat template of a model."""

    def tokens(self, prompt: str, answer: str, *, system: str | None) -> tuple[Sequence[int], Sequence[int]]:
        """Return what stands before an answer, and the answer with the token that ends it."""
        ...


@dataclass(frozen=True, kw_only=True)
class PairCoder:
    """With `chat`, a template takes the place of `separator` and `end`."""

    tokenizer: Tokenizer
    separator: str
    end: str
    chat: Chat | None
    system: str | None

    def code(self, prompt: str, answer: str) -> Coded:
        if self.chat is not None:
            before, after = self.chat.tokens(prompt, answer, system=self.system)
            return Coded(np.array(before, dtype=np.int64), np.array(after, dtype=np.int64))
        # Most tokenizers join a space to the word behind it: it belongs to the answer.
        stem = self.separator.rstrip(" ")
        texts = (prompt + stem, self.separator[len(stem) :] + answer + self.end)
        return Coded(*(self.tokenizer.encode(text).astype(np.int64) for text in texts))


def text_tokenizer(
    name: str, *, texts: Iterable[str], model_tokenizer: Callable[[], str] | None
) -> tuple[Tokenizer, str]:
    """Return the tokenizer called `name` and its JSON, which is empty for bytes.

    `texts`: what a BPE is trained on.
    """
    symbols = bpe_symbols(name)
    if symbols is not None:
        content = train_bpe(texts, symbols=symbols)
        return BpeTokenizer(content, vocab_size=symbols), content
    if name == "bytes":
        return ByteTokenizer(), ""
    content = read_tokenizer(model_tokenizer)
    return ModelTokenizer(content), content
