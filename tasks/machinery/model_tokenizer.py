"""The tokenizer of a pretrained model, for running text: the text of its tokenizer.json.

    {"model": {"type": "BPE", "vocab": {"!": 0, ...}}, "pre_tokenizer": {"type": "ByteLevel"}, ...}

A class is a stretch of text, not a prompt: no special token is added or recognised in it, and no
space is put in front of it, as SentencePiece does at the beginning of a prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ttt.tasks.machinery.tokenizers import LibraryTokenizer

# Before a space, or a line, between two words: there the pieces of a text have the tokens that the
# whole text has. Not inside a run of spaces, which tokens for indentation cover.
CUT = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
# Characters of a piece, and of the pieces that are encoded at once: encodings take some 100 bytes
# for each token until their numbers are read.
PIECE, BATCH = 1 << 14, 1 << 21
# What puts spaces in front of a text or takes them away.
PREFIX = ("Prepend", "Strip")


class ModelTokenizer(LibraryTokenizer):
    """Byte-level tokenizers and those of SentencePiece, with up to 2^32 tokens."""

    def __init__(self, content: str) -> None:
        # Imported here: it takes time that `ttt-run --help` need not spend.
        import tokenizers

        # Written once by the library itself: files of older versions say the same in other words.
        spec = json.loads(tokenizers.Tokenizer.from_str(content).to_str())
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(_of_running_text(spec)))
        # A text may hold "<s>", in HTML for instance: characters like others.
        tokenizer.encode_special_tokens = True
        # The largest number counts: some vocabularies have holes.
        super().__init__(tokenizer, vocab_size=max(tokenizer.get_vocab().values()) + 1)

    def batches(self, text: str) -> Iterator[Sequence[str]]:
        for batch in pieces(text, size=BATCH):
            yield list(pieces(batch, size=PIECE))


def read_tokenizer(model_tokenizer: Callable[[], str] | None) -> str:
    """Return the tokenizer.json of the model. Raises ValueError for a model without one."""
    if model_tokenizer is None:
        raise ValueError(
            "source.tokenizer=model: this model has none; use source.tokenizer=bytes or bpe-1024, or a pretrained "
            "model (model=smollm2)"
        )
    return model_tokenizer()


def pieces(text: str, *, size: int) -> Iterator[str]:
    """Cut a text at the first CUT behind every `size` characters."""
    start = 0
    while start < len(text):
        cut = CUT.search(text, start + size)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def _of_running_text(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that neither changes the ends of a text nor cuts or fills it up."""
    steps = {place: _without_prefix(spec[place]) for place in ("normalizer", "pre_tokenizer", "decoder")}
    return spec | steps | {"truncation": None, "padding": None}


def _without_prefix(step: dict[str, Any] | None) -> dict[str, Any] | None:
    if step is None or step["type"] in PREFIX:
        return None
    if step["type"] == "Sequence":
        (plural,) = step.keys() - {"type"}
        return step | {plural: list(filter(None, map(_without_prefix, step[plural])))}
    changes: dict[str, dict[str, Any]] = {
        "Metaspace": {"prepend_scheme": "never"},
        "ByteLevel": {"add_prefix_space": False},
    }
    return step | changes.get(step["type"], {})
