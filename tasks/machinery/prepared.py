"""Prepared data: made once, kept in Arrow in the cache, read without a copy, checked when opened.

    ~/.cache/ttt/data/languages-5e0c83d2a4b1f967/   data.arrow   manifest.json

The folder's name holds a hash of the recipe, which is all that determines the rows: another recipe
has another folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

# Raise this number when the same recipe is written in another way.
FORMAT = 1
DATA, MANIFEST = "data.arrow", "manifest.json"
# What fits into one batch of Arrow's is one piece of memory when it is read again, without a copy.
BATCH_ROWS = 100_000
# Arrow counts the items of a batch's lists in 32 bits.
BATCH_BYTES = 1 << 30


def prepared(
    cache_dir: str, *, name: str, recipe: Mapping[str, Any], rows: Callable[[], Iterable[Mapping[str, Any]]]
) -> pa.Table:
    """Open the rows of `recipe`; the first call for a recipe makes them with `rows`.

    A folder gets its name by one rename, when it is complete. So processes that prepare at the same
    time need no lock, and all use the data of the first. Raises ValueError when a file is not what
    was prepared, or when the cache cannot be written.
    """
    # Imported here: `ttt-run --help` needs none of it. Reading takes Arrow alone; `datasets`, which
    # writes, takes half a second to import.
    import pyarrow as pa

    # Sorted, so that the order in which a recipe is put together does not matter.
    content = json.dumps({"format": FORMAT, **recipe}, sort_keys=True)
    cache = Path(cache_dir).expanduser() / "data"
    # The name may be the user's: characters other than letters could lead to another path.
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", name)
    folder = cache / f"{plain}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if not folder.exists():
        _prepare(folder, rows, recipe, cache_dir)
    _verify(folder, cache_dir)
    return pa.ipc.open_stream(pa.memory_map(str(folder / DATA))).read_all()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prepare(
    folder: Path, rows: Callable[[], Iterable[Mapping[str, Any]]], recipe: Mapping[str, Any], cache_dir: str
) -> None:
    # The pid tells a person whose folder it is. No other process removes it by that: the pid may be
    # of another machine.
    part = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"cache_dir={cache_dir}: cannot be written: {error.strerror}") from error
    try:
        count = _write(part / DATA, rows())
        manifest = {"rows": count, "recipe": recipe, "files": {DATA: _facts(part / DATA)}}
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        try:
            # POSIX: a rename onto a folder that is not empty fails, so the first one wins.
            part.rename(folder)
        except OSError:
            # Another process was first; its rows are the same.
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write the rows and return how many there are."""
    from datasets.arrow_writer import ArrowWriter

    count = size = 0
    with ArrowWriter(path=str(path), writer_batch_size=BATCH_ROWS) as writer:
        for row in rows:
            more = sum(value.nbytes for value in row.values() if isinstance(value, np.ndarray))
            # A batch ends before it would grow too large, not after.
            if size + more > BATCH_BYTES:
                writer.write_examples_on_file()
                size = 0
            writer.write(dict(row))
            size, count = size + more, count + 1
        assert count, "prepared data has at least one row"
        writer.finalize()
    return count


def _facts(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": file_hash(path)}


def _verify(folder: Path, cache_dir: str) -> None:
    # A folder without a manifest was once complete, too: somebody changed it, so leave it alone.
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        wrong = [name for name, facts in files.items() if not _matches(folder / name, facts)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        wrong = [MANIFEST]
    if wrong:
        raise ValueError(
            f"cache_dir={cache_dir}: {wrong[0]} changed since it was prepared; delete {folder} to prepare it again"
        )


def _matches(path: Path, facts: Mapping[str, Any]) -> bool:
    # The size first: it costs nothing, and a file that was cut short need not be hashed.
    return path.is_file() and path.stat().st_size == facts["size"] and _facts(path) == facts
