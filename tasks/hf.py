"""Rows of a dataset of the Hugging Face hub, or of files of the kinds in which such datasets come.

    {"text": "I rented I AM CURIOUS-YELLOW from my video store...", "label": 0}
    {"text": "Zentropa is the most original movie I've seen...",    "label": 1}

The text of a class is what `text_column` holds in the rows in which `class_column` names it, a line break between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.hub import offline_error, quiet, refusal, work_offline
from ttt.tasks.machinery.prepared import file_hash

KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}
WHAT = f"a dataset of the hub (OWNER/NAME), a file ({'|'.join(KINDS)}) or a folder of such files"


@dataclass(kw_only=True, eq=False)
class Hf(Corpus):
    """Classes in the order in which the rows bring them up; what is left out is counted in `rows`."""

    path: str | None
    subset: str | None
    split: str
    revision: str | None
    text_column: str
    class_column: str | None
    max_rows: int | None
    streaming: bool

    min_bytes: ClassVar[int] = 2000

    def documents(self) -> Iterator[Document]:
        groups: dict[str, int] = {}
        for text, name in self._columns():
            yield Document(name, groups.setdefault(name, len(groups)), text)

    def recipe(self) -> Mapping[str, Any]:
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"source.max_rows={self.max_rows}: must be at least 1, or null for all")
        names = ("subset", "split", "text_column", "class_column", "max_rows")
        recipe = {name: getattr(self, name) for name in names}
        files = self._files()
        if files is None:
            return recipe | {"path": self.path, "revision": self.revision}
        return recipe | {"files": {path.name: file_hash(path) for path in files}}

    def asked(self) -> str:
        return f"source.path={self.path}"

    def _files(self) -> list[Path] | None:
        """Files of one kind; None for a dataset of the hub."""
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
        if not path.exists() and (path.suffix in KINDS or self.path.startswith((".", "~", "/"))):
            raise ValueError(f"source.path={self.path}: no such file; allowed: {WHAT}")
        return [path] if path.exists() else None

    def _columns(self) -> Iterator[tuple[str | None, str]]:
        """Text and class name of each row."""
        # Imported here: it takes a second that `ttt-run --help` need not spend.
        from datasets import ClassLabel

        # One class: it is called like the file or the dataset.
        path = Path(str(self.path))
        only = path.stem if path.suffix in KINDS else path.name
        features: dict[str, Any] = {}
        for number, row in enumerate(self._rows(features)):
            if not number:
                self._check_columns(list(row))
            text, name = row[self.text_column], only
            if self.class_column is not None:
                value = row[self.class_column]
                label = features.get(self.class_column)
                # A number that stands for a name says so in its feature.
                name = label.int2str(value) if isinstance(label, ClassLabel) and value is not None else str(value)
            if not isinstance(text, str | int | float | None):
                raise ValueError(f"source.text_column={self.text_column}: holds no text, but {type(text).__name__}")
            yield None if text is None else str(text), name

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
        """The first `max_rows` rows. `features` receives what is known of the columns."""
        with quiet():
            try:
                data = self._load()
                features.update(data.features or {})
                yield from islice(data, self.max_rows)
            except ConnectionError as error:
                raise offline_error(str(self.path)) from error
            # RuntimeError: a dataset that would run its own code.
            except (OSError, ValueError, RuntimeError) as error:
                asked = {"path": self.path, "split": self.split, "subset": self.subset}
                raise ValueError(refusal(error, asked)) from error

    def _load(self) -> Any:
        import datasets

        files = self._files()
        if files is not None:
            # Streamed: what is kept of them is the prepared data, not another copy.
            names = [str(path) for path in files]
            kind = KINDS[files[0].suffix]
            return datasets.load_dataset(kind, data_files=names, split=self.split, streaming=True)
        return datasets.load_dataset(
            self.path,
            self.subset,
            split=self.split,
            revision=self.revision,
            # Without a network only a dataset that was downloaded as a whole can be read.
            streaming=not work_offline() and self.streaming,
        )
