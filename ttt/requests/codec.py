"""Strings as the tokens of a run, and back.

SourceCodec   bytes, or the BPE of a source: no token stands for a beginning or an end
ModelCodec    the tokenizer of a pretrained model, with its special tokens as for prompts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ttt.models.pretrained import Pretrained, library, quiet, refusing
from ttt.stream import Source, Textual

# `Source.show` writes control characters as pictures; here they are put back.
PICTURES = {0x2400 + code: chr(code) for code in range(32)} | {0x2421: chr(127), ord("⏎"): "\n"}


class Codec(Protocol):
    """`prefix`: the token that stands before a text; `ends`: tokens that end an answer."""

    prefix: int
    ends: frozenset[int]

    def encode(self, text: str, *, special: bool | None = None) -> list[int]:
        """Tokens of a text; `special`: with those that mark its beginning (None: as usual)."""
        ...

    def decode(self, tokens: Sequence[int]) -> str: ...

    def save(self, folder: Path) -> bool:
        """Write a tokenizer that transformers opens, for tasks that measure their texts.

        Return False where there is none.
        """
        ...


class SourceCodec:
    """Text in the tokens of a source; a line break stands before it."""

    ends: frozenset[int] = frozenset()

    def __init__(self, source: Source) -> None:
        sizes = source.token_bytes
        self._is_bytes = sizes is not None and source.vocab_size == 256 and bool((sizes == 1).all())
        if not self._is_bytes and not isinstance(source, Textual):
            raise ValueError(
                f"source={source.name}: has no tokens for texts; allowed: a source of running text, such as languages"
            )
        self._source: Any = source
        self.prefix = self.encode("\n")[-1]

    def encode(self, text: str, *, special: bool | None = None) -> list[int]:
        return list(text.encode()) if self._is_bytes else self._source.encode(text).tolist()

    def decode(self, tokens: Sequence[int]) -> str:
        if self._is_bytes:
            # A model may have more outputs than there are bytes.
            return bytes(token for token in tokens if token < 256).decode(errors="replace")
        return str(self._source.show(np.asarray(tokens, dtype=np.int64))).translate(PICTURES)

    def save(self, folder: Path) -> bool:
        if not self._is_bytes:
            return False
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
        return True


class ModelCodec:
    """Text as `transformers` reads it for this model, which is what lm-eval's `hf` does."""

    def __init__(self, which: Pretrained, *, ends: Sequence[int]) -> None:
        with refusing(which), quiet():
            self._tokenizer: Any = library(which).AutoTokenizer.from_pretrained(
                which.place(), revision=which.revision, trust_remote_code=False
            )
        begin, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        self.ends = frozenset(ends) | ({end} - {None})
        first = begin if begin is not None else end
        self.prefix = self.encode("\n")[-1] if first is None else first
        self._mark = self._tokenizer.decode(self.prefix)

    def encode(self, text: str, *, special: bool | None = None) -> list[int]:
        # A text that brings its own beginning gets no second one.
        if special is None and hasattr(self, "_mark") and text.startswith(self._mark):
            special = False
        return list(self._tokenizer.encode(text, **({} if special is None else {"add_special_tokens": special})))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def save(self, folder: Path) -> bool:
        self._tokenizer.save_pretrained(folder)
        return True


def codec_of(source: Source, config: Mapping[str, Any], *, ends: Sequence[int]) -> Codec:
    """The codec of a run: that of its model, unless its sources have tokens of their own.

    Raises ValueError for a source that is not made of text.
    """
    model = config["model"]
    if model.get("tokenizer") == "model" and set(_tokenizers(config["source"])) <= {"model"}:
        which = Pretrained(str(model["name"]), revision=model.get("revision"), cache_dir=config["cache_dir"])
        return ModelCodec(which, ends=ends)
    return SourceCodec(source)


def _tokenizers(section: Any) -> Iterator[str]:
    """Every `tokenizer` of a source and of its parts."""
    if isinstance(section, Mapping):
        for key, value in section.items():
            yield from [str(value)] if key == "tokenizer" else _tokenizers(value)
