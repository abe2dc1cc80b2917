"""Whether a folder that was typed is a run, or is free for new files. Loads no torch."""

from __future__ import annotations

import difflib
from pathlib import Path

from ttt.storage.run_folder import RunFolder


def check_is_run(path: Path) -> None:
    """Raise ValueError, in the user's words, unless `path` is the folder of a run."""
    if not RunFolder(path).config.is_file():
        raise ValueError(f"{path}: {not_a_run(path)}")


def check_is_new(path: Path, *, option: str) -> None:
    """Raise ValueError, in the user's words, where `path` holds something already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{option} {path}: exists and is not empty")


def not_a_run(path: Path) -> str:
    """Why `path` is not a run, and what may have been meant."""
    if not path.exists():
        return f"no such folder{path_meant(path)}"
    if not path.is_dir():
        return "a file; a run is a folder"
    runs = sorted(file.parent for file in path.rglob(RunFolder(path).config.name))
    return "not a run (no config.yaml)" + (f"; there is one in {runs[0]}" if runs else "")


def path_meant(path: Path) -> str:
    """`; did you mean ...?` where a name is near the place at which a path breaks off."""
    parent = next(p for p in path.absolute().parents if p.exists())
    # The first part of the path that does not exist is the one that was mistyped.
    missing = path.absolute().relative_to(parent).parts[0]
    near = difflib.get_close_matches(missing, [p.name for p in parent.iterdir()] if parent.is_dir() else [], n=1)
    return f"; did you mean {parent / near[0]}?" if near else ""
