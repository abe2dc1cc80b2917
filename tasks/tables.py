"""Five well-known tables as CSV, one observation per line.

    iris     5.1,3.5,1.4,0.2,0
    wine     14.23,1.71,2.43,15.6,127,2.8,3.06,0.28,2.29,5.64,1.04,3.92,1065,0

Provenance and licence: tasks/data/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.prepared import file_hash

DATA = Path(__file__).parent / "data" / "tables.parquet"


@dataclass(kw_only=True, eq=False)
class Tables(Corpus):
    """One class per table, each a family of its own."""

    # Iris, the smallest table, has 2.8 kB.
    min_bytes: ClassVar[int] = 2500

    def documents(self) -> Iterator[Document]:
        # Deferred: pyarrow takes a while to import, and `ttt-run --help` does not need it.
        import pyarrow.parquet

        for group, table in enumerate(pyarrow.parquet.read_table(DATA).to_pylist()):
            yield Document(table["name"], group, table["text"])

    def recipe(self) -> Mapping[str, Any]:
        return {"sha256": file_hash(DATA)}
