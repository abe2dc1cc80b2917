"""The code of a part that lies outside the project, as a hash.

    mine/haiku.py        class Haiku; import poets
    mine/poets.py        beside it, so that a change of it changes the hash too

Data that such code makes changes when the code does, and nobody raises a version by hand.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path


def code_of(module_name: str) -> str:
    """Hash a module and the modules beside it that it imports; empty for a module of ours."""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if module_name.split(".")[0] == "ttt" or file is None:
        return ""
    # Names of modules are looked up where that of this module begins.
    root = Path(file).resolve().parents[module_name.count(".") + (Path(file).name == "__init__.py")]
    digest = hashlib.sha256()
    for path in sorted(_reached(Path(file).resolve(), root)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _reached(file: Path, root: Path) -> set[Path]:
    """The file, and all below `root` that it imports, directly or through others."""
    reached, waiting = set[Path](), [file]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _beside(path, root)
    return reached


def _beside(path: Path, root: Path) -> Iterator[Path]:
    for name in _imported(path, root):
        place = root.joinpath(*name.split("."))
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _imported(path: Path, root: Path) -> Iterator[str]:
    """The dotted names of what a file imports, relative ones as they are seen from `root`."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            # Each dot is a folder up; the first is that of the file.
            above = path.relative_to(root).parts[: -node.level] if node.level else ()
            name = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import module` names a module behind `import`.
            # Names that are no file beside it are dropped by `_beside`.
            yield from (name, *(f"{name}.{alias.name}".lstrip(".") for alias in node.names))
