"""`haiku`: a folder with a text file per poet; each poet is a class.

    poems/basho.txt      old pond in the rain
                         a frog leaps into the stillness
                         the sound of water

The first 80 % of each file are the poet's train part, the rest is its eval part.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document


@dataclass(kw_only=True, eq=False)
class Haiku(Corpus):
    folder: str
    # Poets with less text are left out, unless source.least_bytes says otherwise.
    min_bytes: ClassVar[int] = 1000

    def documents(self) -> Iterator[Document]:
        # The number is a group: classes of one group share wording, and are held out together.
        for group, file in enumerate(self._files()):
            yield Document(file.stem, group, file.read_text())

    def recipe(self) -> dict[str, Any]:
        return {"sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in self._files()]}

    def _files(self) -> list[Path]:
        files = sorted(Path(self.folder).glob("*.txt"))
        if not files:
            raise ValueError(f"source.folder={self.folder}: no folder with *.txt files")
        return files
