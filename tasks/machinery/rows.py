"""Rows of text from files of tables, as they stand there: no cell becomes a number.

a.csv    review,stars            {"review": "Fine, but loud", "stars": "4"}
         "Fine, but loud",4
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttt.tasks.machinery.hints import name_meant, some

# A row: the value of each column, None where a cell is missing.
Row = dict[str, Any]
DELIMITERS = {".csv": ",", ".tsv": "\t"}
KINDS = (*DELIMITERS, ".jsonl", ".txt")
# The column that the lines of a .txt are in.
LINE = "text"
# The most characters of a cell; Python's own limit is 128 KiB.
CELL = 2**31 - 1


def read_rows(file: Path) -> Iterator[Row]:
    """Yield the rows of a file. Raises ValueError that names the file and the place in it."""
    csv.field_size_limit(CELL)
    try:
        # utf-8-sig: spreadsheets put a mark of byte order in front.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            if file.suffix in DELIMITERS:
                yield from _cells(csv.DictReader(stream, delimiter=DELIMITERS[file.suffix], strict=True), file)
            elif file.suffix == ".txt":
                yield from ({LINE: line.rstrip("\r\n")} for line in stream)
            else:
                yield from (_object(line, file, number) for number, line in enumerate(stream, 1) if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is not UTF-8 (byte {error.object[error.start]:#04x}); save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from error


def check_columns(row: Sequence[str], wanted: Mapping[str, str | None], *, where: str) -> None:
    """Raise ValueError for a column that is not there; `wanted`: what was typed -> the column."""
    for argument, name in wanted.items():
        if name is not None and name not in row:
            raise ValueError(
                f"source.{argument}={name}: no such column; {name_meant(name, row)}{where} has: {some(row)}"
            )


def _cells(reader: csv.DictReader[str], file: Path) -> Iterator[Row]:
    try:
        for row in reader:
            # DictReader files what stands behind the last column under None.
            if None in row:
                raise ValueError(f"{file}: line {reader.line_num} has more cells than the first line has names")
            yield dict(row)
    except csv.Error as error:
        raise ValueError(f"{file}: line {reader.line_num}: {error}") from error


def _object(line: str, file: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: line {number} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{file}: line {number} is no object, but {type(row).__name__}")
    return row
