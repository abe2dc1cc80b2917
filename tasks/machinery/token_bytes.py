"""How many bytes of UTF-8 each token of a tokenizer stands for.

byte-level (GPT-2)        "Ġcafé" is written "ĠcafÃ©", a character for each byte: 6 bytes
SentencePiece (Llama-2)   "▁café": 6 bytes, ▁ is a space;  "<0x0A>": 1 byte
special                   "<|endoftext|>": 0 bytes, since it stands for no text
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ttt.stream import Ints

if TYPE_CHECKING:
    import tokenizers

# What SentencePiece writes in place of a space.
SPACE = "▁"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Tokenizers that change texts, or do not know all characters, do not return it.
PROBE = "  Ein Café,\n\tno. 1234;\n\nthe  end: 🙂 漢字\n"


def token_bytes(tokenizer: tokenizers.Tokenizer, *, vocab_size: int) -> Ints | None:
    """Return the bytes of each token [V]; None where the tokens of a text are not all of it."""
    spec = json.loads(tokenizer.to_str())
    is_byte_level = any(step["type"] == "ByteLevel" for step in _steps(spec))
    has_bytes = bool(spec["model"].get("byte_fallback"))
    sizes = np.zeros(vocab_size, dtype=np.int64)
    for token, number in tokenizer.get_vocab(with_added_tokens=False).items():
        if is_byte_level:
            # GPT-2's alphabet writes each byte as one character.
            sizes[number] = len(token)
        else:
            sizes[number] = 1 if has_bytes and BYTE.fullmatch(token) else len(token.replace(SPACE, " ").encode())
    for number, added in tokenizer.get_added_tokens_decoder().items():
        sizes[number] = 0 if added.special else len(added.content.encode())
    probe = tokenizer.encode(PROBE, add_special_tokens=False).ids
    is_whole = tokenizer.decode(probe, skip_special_tokens=False) == PROBE
    return sizes if is_whole and sizes[probe].sum() == len(PROBE.encode()) else None


def _steps(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps before and after the model that a tokenizer.json lists."""
    for place, plural in (("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")):
        if spec[place] is not None:
            yield from spec[place].get(plural, [spec[place]])
