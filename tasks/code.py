"""The source text of Python's standard library, as the running Python brings it along.

    tarfile    def nts(s, encoding, errors):\\n    \\"\\"\\"Convert a null-terminated bytes...
    json       def _decode_uXXXX(s, pos, _m=HEXDIGITS.match):\\n    esc = _m(s, pos + 1)...

A class is a package or a module with all its files. Their number and content depend on the version
of Python.
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

# Tests and their data, and what others installed.
NO_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
# Tables that a program wrote, and texts that are no code.
NO_MODULES = {"encodings", "pydoc_data", "this", "antigravity", "__phello__"}
# Settings of the machine on which Python was built.
NO_BEGINNINGS = ("config-", "_sysconfigdata", "_sysconfig_vars")
# Copies and descendants of one another: over 2 % of their 128-byte strings agree (Python 3.11).
RELATIVES = (
    ("distutils", "shutil", "sysconfig"),
    ("lib2to3", "tokenize"),
    ("aifc", "wave"),
    ("profile", "pstats"),
)


@dataclass(kw_only=True, eq=False)
class Code(Corpus):
    """About a hundred classes of up to half a megabyte; relatives form one family."""

    min_bytes: ClassVar[int] = 20_000

    def documents(self) -> Iterator[Document]:
        first_relative = {name: names[0] for names in RELATIVES for name in names}
        groups: dict[str, int] = {}
        for name, _, content in _modules():
            group = groups.setdefault(first_relative.get(name, name), len(groups))
            yield Document(name, group, _decoded(content))

    def recipe(self) -> Mapping[str, Any]:
        # Hashes the content, not Python's version: distributions patch the library.
        digest = hashlib.sha256()
        for _, path, content in _modules():
            digest.update(f"{path}:{len(content)}\n".encode())
            digest.update(content)
        return {"sha256": digest.hexdigest(), "relatives": RELATIVES}


def _modules() -> Iterator[tuple[str, str, bytes]]:
    """Yield the class name, the path inside the library and the content of each file."""
    library = sysconfig.get_paths()["stdlib"]
    for folder, folders, files in os.walk(library):
        # Pruned here, not skipped later: site-packages can be a hundred times the library.
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
