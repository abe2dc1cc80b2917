"""The chat template of a pretrained model: how it writes a conversation.

<|im_start|>user\nCapital of France?<|im_end|>\n<|im_start|>assistant\n  |  Paris<|im_end|>
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ttt.models.pretrained import Pretrained, library, quiet, refusing


class ChatTemplate:
    """How a model writes conversations."""

    def __init__(self, tokenizer: Any, which: Pretrained) -> None:
        self._tokenizer, self._which = tokenizer, which
        self._special = frozenset(tokenizer.all_special_ids)

    def tokens(self, prompt: str, answer: str, *, system: str | None) -> tuple[list[int], list[int]]:
        """Return what stands before an answer, and the answer with the token that ends it."""
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages.append({"role": "user", "content": prompt})
        opening = self._read(messages, ends=False)
        whole = self._read([*messages, {"role": "assistant", "content": answer}], ends=True)
        # Where a template ends with a space, this may be one token with what follows.
        shared = next((place for place, (a, b) in enumerate(zip(opening, whole, strict=False)) if a != b), len(opening))
        if shared < len(opening) - 1:
            raise ValueError(
                f"{self._which.typed}: its chat template writes an answer differently from what it asks for; "
                "use source.chat=false"
            )
        after = whole[shared:]
        # Templates put line breaks behind the token that ends an answer: nobody generates them.
        ends = [place for place, token in enumerate(after) if token in self._special]
        return whole[:shared], after[: ends[-1] + 1] if ends else after

    def _read(self, messages: list[dict[str, str]], *, ends: bool) -> list[int]:
        with refusing(self._which):
            tokens: list[int] = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=not ends, tokenize=True, return_dict=False
            )
        return tokens


def chat_of(model: Mapping[str, Any], cache_dir: str) -> Callable[[], ChatTemplate | None] | None:
    """Return a function that reads the chat template of a model, or None where it has none.

    None for a model that is not pretrained. `model`: the section of a config.
    """
    if model.get("tokenizer") != "model":
        return None
    which = Pretrained(str(model["name"]), revision=model.get("revision"), cache_dir=cache_dir)

    def read() -> ChatTemplate | None:
        with refusing(which), quiet():
            tokenizer = library(which).AutoTokenizer.from_pretrained(
                which.place(), revision=which.revision, trust_remote_code=False
            )
        return ChatTemplate(tokenizer, which) if tokenizer.chat_template else None

    return read
