"""Rows of a dataset of the hub, or of local files in the formats of such datasets.

{"text": "I rented I AM CURIOUS-YELLOW from my video store...", "label": 0}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ttt.tasks.machinery.hub import hub_refusal, offline_error, quiet, work_offline

KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}
WHAT = f"a dataset of the hub (OWNER/NAME), a file ({'|'.join(KINDS)}) or a folder of such files"


class HubSource(Protocol):
    """The settings of conf/hub.yaml, which several sources have among others."""

    path: str | None
    subset: str | None
    split: str
    revision: str | None
    max_rows: int | None
    streaming: bool


@dataclass(frozen=True)
class HubRows:
    """The rows that the settings of a source name."""

    source: HubSource

    @property
    def name(self) -> str:
        """The name of the file or of the dataset."""
        path = Path(str(self.source.path))
        return path.stem if path.suffix in KINDS else path.name

    def files(self) -> list[Path] | None:
        """Return the local files, all of one kind, or None for a dataset of the hub."""
        if self.source.path is None:
            raise ValueError(f"source.path=null: name {WHAT}")
        path = Path(self.source.path).expanduser()
        if path.is_dir():
            files = sorted(item for item in path.iterdir() if item.suffix in KINDS and not item.name.startswith("."))
            kinds = sorted({item.suffix for item in files})
            if len({KINDS[kind] for kind in kinds}) != 1:
                what = f"holds {', '.join(kinds)}" if kinds else "no file of these kinds in it"
                raise ValueError(f"source.path={self.source.path}: {what}; allowed: {WHAT} of one kind")
            return files
        if path.exists() and path.suffix not in KINDS:
            raise ValueError(f"source.path={self.source.path}: cannot be read; allowed: {WHAT}")
        # A path that looks local is no name on the hub: say so here, not after a look-up there.
        if not path.exists() and (path.suffix in KINDS or self.source.path.startswith((".", "~", "/"))):
            raise ValueError(f"source.path={self.source.path}: no such file; allowed: {WHAT}")
        return [path] if path.exists() else None

    def rows(self, features: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the first `max_rows` rows; fill `features` with the types of the columns."""
        with quiet():
            try:
                data = self._load()
                features.update(data.features or {})
                yield from islice(data, self.source.max_rows)
            except ConnectionError as error:
                raise offline_error(str(self.source.path)) from error
            # RuntimeError: the dataset is a script, and `datasets` does not run foreign code.
            except (OSError, ValueError, RuntimeError) as error:
                typed = {"path": self.source.path, "split": self.source.split, "subset": self.source.subset}
                raise ValueError(hub_refusal(error, typed)) from error

    def _load(self) -> Any:
        import datasets

        files = self.files()
        if files is not None:
            # Streamed, so that `datasets` caches no second copy beside the prepared data.
            names = [str(path) for path in files]
            kind = KINDS[files[0].suffix]
            return datasets.load_dataset(kind, data_files=names, split=self.source.split, streaming=True)
        return datasets.load_dataset(
            self.source.path,
            self.source.subset,
            split=self.source.split,
            revision=self.source.revision,
            # Without a network only a dataset that was downloaded completely can be read.
            streaming=not work_offline() and self.source.streaming,
        )


def named(value: Any, feature: Any) -> Any:
    """Return the name that a number of a column stands for, or the value as it is."""
    # Deferred: `datasets` takes a second to import, and `ttt-run --help` does not need it.
    from datasets import ClassLabel

    return feature.int2str(value) if isinstance(feature, ClassLabel) and value is not None else value
