"""The text of a corpus in the cache: as bytes, and as the tokens of a tokenizer.

languages-5e0c83d2a4b1f967            train and eval parts, as bytes
languages-bpe-1024-symbols-0c11...    a tokenizer that was trained on the train parts
languages-bpe-1024-93ad...            the same parts as its tokens
languages-model-71fe...               the same parts as tokens of a pretrained model
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ttt.tasks.machinery.documents import TRAIN, PreparedText, prepared_row, prepared_text
from ttt.tasks.machinery.prepared import prepared
from ttt.tasks.machinery.tokenizers import Tokenizer, train_bpe

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TextCache:
    """`rows` makes the parts as bytes; `recipe` is all that determines them."""

    folder: str
    name: str
    recipe: Mapping[str, Any]
    rows: Callable[[], Rows]

    def text(self) -> PreparedText:
        """Return the parts as bytes, whatever the tokenizer."""
        return prepared_text(prepared(self.folder, name=self.name, recipe=self.recipe, rows=self.rows))

    def trained(self, *, symbols: int) -> str:
        """Return a BPE trained on the train parts, as JSON."""

        def rows() -> Rows:
            # Read only where it is needed: with both steps prepared, the bytes are never opened.
            text = self.text()
            return [{"tokenizer": train_bpe((text.text(i) for i in text.rows(TRAIN)), symbols=symbols)}]

        name, recipe = f"{self.name}-bpe-{symbols}-symbols", {**self.recipe, "symbols": symbols}
        return str(prepared(self.folder, name=name, recipe=recipe, rows=rows)["tokenizer"][0].as_py())

    def encoded(self, coder: Tokenizer, *, tokenizer: str, content: str) -> PreparedText:
        """Return the parts as tokens of `coder`, whose JSON is `content`."""

        def rows() -> Iterator[Mapping[str, Any]]:
            text = self.text()
            for i, (class_name, group, part) in enumerate(zip(text.names, text.groups, text.parts, strict=True)):
                yield prepared_row(class_name, group, str(part), coder.encode(text.text(i)))

        name, recipe = (
            f"{self.name}-{tokenizer}",
            {**self.recipe, "tokenizer": hashlib.sha256(content.encode()).hexdigest()},
        )
        return prepared_text(prepared(self.folder, name=name, recipe=recipe, rows=rows))
