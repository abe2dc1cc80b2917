"""Python's own library: the source text of the modules that every Python brings along.

    tarfile    def nts(s, encoding, errors):\\n    \\"\\"\\"Convert a null-terminated bytes object to a string...
    json       def _decode_uXXXX(s, pos, _m=HEXDIGITS.match):\\n    esc = _m(s, pos + 1)...

A class is a package or a module with all its files; which there are, and what they say, depends on the Python.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document

# Tests and their data; what others installed; tables that a program wrote; texts that are no code.
NO_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
NO_MODULES = {"encodings", "pydoc_data", "this", "antigravity", "__phello__"}
NO_BEGINNINGS = ("config-", "_sysconfigdata", "_sysconfig_vars")
# Copies and descendants of one another: over a fiftieth of their 128-byte strings is shared (Python 3.11).
RELATIVES = (
    ("distutils", "shutil", "sysconfig"),
    ("lib2to3", "tokenize"),
    ("aifc", "wave"),
    ("profile", "pstats"),
)


@dataclass(kw_only=True, eq=False)
class Code(Corpus):
    """About a hundred classes, from half a megabyte down to `min_bytes`; relatives form one family."""

    min_bytes: ClassVar[int] = 20_000

    def documents(self) -> Iterator[Document]:
        group = {name: names[0] for names in RELATIVES for name in names}
        groups: dict[str, int] = {}
        for name, _, content in _modules():
            number = groups.setdefault(group.get(name, name), len(groups))
            yield Document(name, number, _decoded(content))

    def recipe(self) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        for _, path, content in _modules():
            digest.update(f"{path}:{len(content)}\n".encode())
            digest.update(content)
        return {"sha256": digest.hexdigest(), "relatives": RELATIVES}


def _modules() -> Iterator[tuple[str, str, bytes]]:
    """Class name, path inside the library and content of each file."""
    library = sysconfig.get_paths()["stdlib"]
    for folder, folders, files in os.walk(library):
        # Not entered, since what others installed can be a hundred times the library.
        folders[:] = sorted(name for name in folders if name not in NO_FOLDERS)
        for file in sorted(files):
            path = Path(folder, file)
            inside = path.relative_to(library)
            name = inside.parts[0].removesuffix(".py")
            if path.suffix == ".py" and name not in NO_MODULES and not name.startswith(NO_BEGINNINGS):
                yield name, inside.as_posix(), path.read_bytes()


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
