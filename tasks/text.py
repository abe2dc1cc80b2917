"""Your own text: a folder with a folder for each class.

    letters/
      austen/   1796-cassandra.txt  1801-cassandra.txt
      keats/    brawne.txt          reynolds/1818.txt

All files in a class's folder are read, at any depth and of any kind, unless they are hidden or not
UTF-8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document

LAYOUT = "put the files of each class into a folder of its own: FOLDER/CLASS/FILE"


@dataclass(kw_only=True, eq=False)
class Text(Corpus):
    """Classes in the order of their folders' names.

    `rows` counts what is left out: classes that are too small, files that are not UTF-8.
    """

    path: str | None

    min_bytes: ClassVar[int] = 2000

    def documents(self) -> Iterator[Document]:
        groups: dict[str, int] = {}
        for path in self._files():
            name = path.relative_to(self._folder()).parts[0]
            yield Document(name, groups.setdefault(name, len(groups)), _read(path))

    def recipe(self) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        # Names count too: they say which class a text belongs to.
        for path in self._files():
            text = _read(path)
            content = "unreadable" if text is None else hashlib.sha256(text.encode()).hexdigest()
            digest.update(f"{path.relative_to(self._folder()).as_posix()}\0{content}\n".encode(errors="replace"))
        return {"sha256": digest.hexdigest()}

    def typed(self) -> str:
        return f"source.path={self.path}"

    def _folder(self) -> Path:
        if self.path is None:
            raise ValueError(f"source.path=null: name a folder; {LAYOUT}")
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            what = "not a folder" if folder.exists() else "no such folder"
            raise ValueError(f"source.path={self.path}: {what}; {LAYOUT}")
        return folder

    def _files(self) -> list[Path]:
        """Return all files of all classes, sorted. Raises ValueError if there are none."""
        folder = self._folder()
        if not any(folder.iterdir()):
            raise ValueError(f"source.path={self.path}: the folder is empty; {LAYOUT}")
        classes = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        if not classes:
            raise ValueError(f"source.path={self.path}: has files, but no folders in it; {LAYOUT}")
        # Folders such as .git and files such as .DS_Store are nobody's text.
        files = [path for path in folder.glob("*/**/*") if path.is_file() and not _hidden(path.relative_to(folder))]
        if not files:
            raise ValueError(f"source.path={self.path}: there is no file in its folders; {LAYOUT}")
        # The order of a folder's entries differs between file systems, and the text must not.
        return sorted(files)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read(path: Path) -> str | None:
    # Not read_text: it would translate line ends, and the text would depend on the system.
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
