"""The manual pages that are installed on this system, by language.

    en    ls lists information about the FILEs (the current directory by default). Sort entries...
    de    Jede Handbuchseite enthält eine kurze Beschreibung. apropos durchsucht diese...

A class is a language with its pages by section and name, as plain text. More languages come with
packages such as manpages-es (Debian).
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document

# Raise this number when the same pages become another text.
PLAIN = 1
# Requests whose arguments are text; all others say how a page looks.
TEXT = {"SH", "SS", "IP", "B", "I", "R", "BI", "BR", "IB", "IR", "RB", "RI", "SB", "SM"}
# Sections in the order in which they are read. Overviews and formats are prose and come first, the
# commands last, since large tools have thousands of pages that are much alike.
SECTIONS = [f"man{number}" for number in (7, 5, 4, 2, 3, 8, 6, 1)]
# Characters that a page writes by their names; others of these, fonts and sizes leave nothing.
NAMES = {r"\-": "-", r"\e": "\\", r"\~": " ", r"\ ": " ", r"\(aq": "'", r"\(dq": '"', r"\(em": "-", r"\(en": "-"}
ESCAPE = re.compile(r"\\(?:f(?:\(..|\[.*?\]|.)|s[-+]?\d+|\*(?:\(..|\[.*?\]|.)|\(..|\[.*?\]|\".*|.)")


@dataclass(kw_only=True, eq=False)
class Manuals(Corpus):
    """Arguments are explained in conf/source/manuals.yaml."""

    path: str
    most_bytes: Annotated[int, Ge(1)]
    min_bytes: ClassVar[int] = 100_000

    def documents(self) -> Iterator[Document]:
        groups: dict[str, int] = {}
        for language, text in self._pages():
            # Countries that share a language share wording.
            family = re.split(r"[_@]", language)[0]
            yield Document(language, groups.setdefault(family, len(groups)), text)

    def recipe(self) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        for language, text in self._pages():
            digest.update(f"{language}\n{text}\n".encode())
        return {"sha256": digest.hexdigest(), "plain": PLAIN, "most_bytes": self.most_bytes}

    def _pages(self) -> Iterator[tuple[str, str | None]]:
        """Yield the language and the plain text of each page, up to `most_bytes` of a language."""
        size: dict[str, int] = {}
        for language, file in self._files():
            if size.get(language, 0) < self.most_bytes:
                text = _read(file)
                size[language] = size.get(language, 0) + len((text or "").encode())
                yield language, text

    def _files(self) -> list[tuple[str, Path]]:
        """Return the language and the file of each page. Raises ValueError if there are none."""
        root = Path(self.path).expanduser()
        files = [
            ("en" if folder == root else folder.name.partition(".")[0], file)
            for folder in (root, *sorted(root.glob("[a-z][a-z]*")))
            for section in SECTIONS
            for file in sorted((folder / section).glob("*"))
            # A link is another name of a page that is there already.
            if file.is_file() and not file.is_symlink()
        ]
        if not files:
            raise ValueError(f"source.path={self.path}: holds no manual pages (man1/NAME.1.gz, de/man1/NAME.1.gz)")
        return files


def _read(file: Path) -> str | None:
    """Return a page as plain text; None where it cannot be read."""
    try:
        content = file.read_bytes()
        return plain((gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8"))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return None


def plain(page: str) -> str:
    """Return the text of a page in roff, without its requests."""
    lines = []
    for line in page.splitlines():
        if line.startswith((".", "'")):
            name, _, arguments = line[1:].strip().partition(" ")
            line = arguments.replace('"', "") if name in TEXT else ""
        text = ESCAPE.sub(lambda escape: NAMES.get(escape[0], ""), line).rstrip()
        if text.strip():
            lines.append(text)
    return "\n".join(lines)
