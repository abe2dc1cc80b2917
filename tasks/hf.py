"""Rows of a dataset of the Hugging Face hub, or of local files in the formats of such datasets.

    {"text": "I rented I AM CURIOUS-YELLOW from my video store...", "label": 0}
    {"text": "Zentropa is the most original movie I've seen...",    "label": 1}

The text of a class is the `text_column` of all rows whose `class_column` names the class, joined by
line breaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.hub import hub_refusal, offline_error, quiet, work_offline
from ttt.tasks.machinery.prepared import file_hash

KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}
WHAT = f"a dataset of the hub (OWNER/NAME), a file ({'|'.join(KINDS)}) or a folder of such files"


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
        files = self._files()
        # Local files count by content, under any path; a dataset of the hub by name and commit.
        if files is None:
            return recipe | {"path": self.path, "revision": self.revision}
        return recipe | {"files": {path.name: file_hash(path) for path in files}}

    def typed(self) -> str:
        return f"source.path={self.path}"

    def _files(self) -> list[Path] | None:
        """Return the local files, all of one kind, or None for a dataset of the hub."""
        if self.path is None:
            raise ValueError(f"source.path=null: name {WHAT}")
        path = Path(self.path).expanduser()
        if path.is_dir():
            files = sorted(item for item in path.iterdir() if item.suffix in KINDS and not item.name.startswith("."))
            kinds = sorted({item.suffix for item in files})
            if len({KINDS[kind] for kind in kinds}) != 1:
                what = f"holds {', '.join(kinds)}" if kinds else "no file of these kinds in it"
                raise ValueError(f"source.path={self.path}: {what}; allowed: {WHAT} of one kind")
            return files
        if path.exists() and path.suffix not in KINDS:
            raise ValueError(f"source.path={self.path}: cannot be read; allowed: {WHAT}")
        # A path that looks local is no name on the hub: say so here, not after a look-up there.
        if not path.exists() and (path.suffix in KINDS or self.path.startswith((".", "~", "/"))):
            raise ValueError(f"source.path={self.path}: no such file; allowed: {WHAT}")
        return [path] if path.exists() else None

    def _columns(self) -> Iterator[tuple[str | None, str]]:
        """Yield the text and the class name of each row."""
        features: dict[str, Any] = {}
        for number, row in enumerate(self._rows(features)):
            # Column names are only known with the first row, at least for streamed files.
            if number == 0:
                self._check_columns(list(row))
            text, name = row[self.text_column], self._class_of(row, features)
            if not isinstance(text, str | int | float | None):
                raise ValueError(f"source.text_column={self.text_column}: holds no text, but {type(text).__name__}")
            yield None if text is None else str(text), name

    def _class_of(self, row: Mapping[str, Any], features: Mapping[str, Any]) -> str:
        if self.class_column is None:
            # All rows are one class, named after the file or the dataset.
            path = Path(str(self.path))
            return path.stem if path.suffix in KINDS else path.name
        # Deferred: `datasets` takes a second to import, and `ttt-run --help` does not need it.
        from datasets import ClassLabel

        value, label = row[self.class_column], features.get(self.class_column)
        # A number may stand for a name, which its feature knows.
        return str(label.int2str(value)) if isinstance(label, ClassLabel) and value is not None else str(value)

    def _check_columns(self, columns: list[str]) -> None:
        for argument in ("text_column", "class_column"):
            name = getattr(self, argument)
            if name is not None and name not in columns:
                near = get_close_matches(name, columns, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(
                    f"source.{argument}={name}: no such column; {hint}{self.path} has: {', '.join(columns)}"
                )

    def _rows(self, features: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the first `max_rows` rows; fill `features` with the types of the columns."""
        with quiet():
            try:
                data = self._load()
                features.update(data.features or {})
                yield from islice(data, self.max_rows)
            except ConnectionError as error:
                raise offline_error(str(self.path)) from error
            # RuntimeError: the dataset is a script, and `datasets` does not run foreign code.
            except (OSError, ValueError, RuntimeError) as error:
                typed = {"path": self.path, "split": self.split, "subset": self.subset}
                raise ValueError(hub_refusal(error, typed)) from error

    def _load(self) -> Any:
        import datasets

        files = self._files()
        if files is not None:
            # Streamed, so that `datasets` caches no second copy beside the prepared data.
            names = [str(path) for path in files]
            kind = KINDS[files[0].suffix]
            return datasets.load_dataset(kind, data_files=names, split=self.split, streaming=True)
        return datasets.load_dataset(
            self.path,
            self.subset,
            split=self.split,
            revision=self.revision,
            # Without a network only a dataset that was downloaded completely can be read.
            streaming=not work_offline() and self.streaming,
        )
