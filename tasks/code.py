"""The source text of Python's standard library, or of packages that are installed beside it.

    tarfile    def nts(s, encoding, errors):\\n    \\"\\"\\"Convert a null-terminated bytes...
    json       def _decode_uXXXX(s, pos, _m=HEXDIGITS.match):\\n    esc = _m(s, pos + 1)...

A class is a package or a module with all its files. Their number and content depend on the version
of Python, or of the packages.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
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
    """Of the library about a hundred classes of up to half a megabyte; relatives form one family.

    `packages`: the installed packages to read in place of the library.
    """

    packages: list[str] | None = None
    min_bytes: ClassVar[int] = 20_000

    def documents(self) -> Iterator[Document]:
        first_relative = {name: names[0] for names in RELATIVES for name in names}
        groups: dict[str, int] = {}
        for name, _, content in self._files():
            group = groups.setdefault(first_relative.get(name, name), len(groups))
            yield Document(name, group, _decoded(content))

    def recipe(self) -> Mapping[str, Any]:
        # Hashes the content, not Python's version: distributions patch the library.
        digest = hashlib.sha256()
        for _, path, content in self._files():
            digest.update(f"{path}:{len(content)}\n".encode())
            digest.update(content)
        return {"sha256": digest.hexdigest(), "relatives": RELATIVES}

    def _files(self) -> Iterator[tuple[str, str, bytes]]:
        """Yield the class name, the path and the content of each file."""
        if self.packages is None:
            library = Path(sysconfig.get_paths()["stdlib"])
            for inside, content in _modules(library):
                name = inside.parts[0].removesuffix(".py")
                if name not in NO_MODULES and not name.startswith(NO_BEGINNINGS):
                    yield name, inside.as_posix(), content
            return
        for package in self.packages:
            for inside, content in _modules(_package_folder(package)):
                yield package, f"{package}/{inside.as_posix()}", content


def _modules(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the path inside `root` and the content of each file of Python code."""
    for folder, folders, files in os.walk(root):
        # Pruned here, not skipped later: site-packages can be a hundred times the library.
        folders[:] = sorted(name for name in folders if name not in NO_FOLDERS)
        for file in sorted(files):
            path = Path(folder, file)
            if path.suffix == ".py":
                yield path.relative_to(root), path.read_bytes()


def _package_folder(name: str) -> Path:
    """Return the folder of an installed package. Raises ValueError where there is none."""
    # Not for a dotted name, which would import the package around it.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if not folders:
        near = difflib.get_close_matches(name, sorted(packages_distributions()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"source.packages=[{name}]: no package of this name is installed{hint}")
    return Path(folders[0])


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
