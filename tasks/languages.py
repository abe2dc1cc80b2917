"""The Universal Declaration of Human Rights in over 500 languages.

    English    ...Article 1\\nAll human beings are born free and equal in dignity and rights...
    Bulu       ...ATYIÑ ÔSU\\nBôt bese be ne abialé été fili a ekokomba...

A class is one text of about 12 kB. Provenance and licence: tasks/data/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.prepared import file_hash

DATA = Path(__file__).parent / "data" / "languages.parquet"


@dataclass(kw_only=True, eq=False)
class Languages(Corpus):
    """One class per text; spellings and close relatives of one language form one family."""

    # A shorter text is too small to be cut into a train and an eval part.
    min_bytes: ClassVar[int] = 6000

    def documents(self) -> Iterator[Document]:
        # Deferred: pyarrow takes a while to import, and `ttt-run --help` does not need it.
        import pyarrow.parquet

        # `group` joins texts that share wording; a base must not read a relative of a task's text.
        for text in pyarrow.parquet.read_table(DATA).to_pylist():
            yield Document(f"{text['code']} {text['name']}", text["group"], text["text"])

    def recipe(self) -> Mapping[str, Any]:
        return {"sha256": file_hash(DATA)}
