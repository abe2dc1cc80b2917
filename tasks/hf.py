"""Rows of a dataset of the Hugging Face hub, or of local files in the formats of such datasets.

    {"text": "I rented I AM CURIOUS-YELLOW from my video store...", "label": 0}
    {"text": "Zentropa is the most original movie I've seen...",    "label": 1}

The text of a class is the `text_column` of all rows whose `class_column` names the class, joined by
line breaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.hub_rows import HubRows, named
from ttt.tasks.machinery.prepared import file_hash
from ttt.tasks.machinery.rows import check_columns


@dataclass(kw_only=True, eq=False)
class Hf(Corpus):
    """Classes in the order of their first rows; `rows` counts what is left out."""

    path: str | None
    subset: str | None
    split: str
    revision: str | None
    text_column: str
    class_column: str | None
    max_rows: Annotated[int, Ge(1)] | None
    streaming: bool

    min_bytes: ClassVar[int] = 2000

    def documents(self) -> Iterator[Document]:
        groups: dict[str, int] = {}
        for text, name in self._columns():
            yield Document(name, groups.setdefault(name, len(groups)), text)

    def recipe(self) -> Mapping[str, Any]:
        names = ("subset", "split", "text_column", "class_column", "max_rows")
        recipe = {name: getattr(self, name) for name in names}
        files = self._hub.files()
        # Local files count by content, under any path; a dataset of the hub by name and commit.
        if files is None:
            return recipe | {"path": self.path, "revision": self.revision}
        return recipe | {"files": {path.name: file_hash(path) for path in files}}

    def typed(self) -> str:
        return f"source.path={self.path}"

    @property
    def _hub(self) -> HubRows:
        return HubRows(self)

    def _columns(self) -> Iterator[tuple[str | None, str]]:
        """Yield the text and the class name of each row."""
        features: dict[str, Any] = {}
        for number, row in enumerate(self._hub.rows(features)):
            # Column names are only known with the first row, at least for streamed files.
            if number == 0:
                wanted = {"text_column": self.text_column, "class_column": self.class_column}
                check_columns(list(row), wanted, where=str(self.path))
            text = row[self.text_column]
            if not isinstance(text, str | int | float | None):
                raise ValueError(f"source.text_column={self.text_column}: holds no text, but {type(text).__name__}")
            yield None if text is None else str(text), self._class_of(row, features)

    def _class_of(self, row: Mapping[str, Any], features: Mapping[str, Any]) -> str:
        # Without a column all rows are one class, named after the file or the dataset.
        column = self.class_column
        return self._hub.name if column is None else str(named(row[column], features.get(column)))
