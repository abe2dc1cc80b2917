"""The texts that `ttt-stream` reads: files, the standard input, or records of many sessions.

{"session": "ann", "text": "All human beings "}
{"session": "bob", "text": "Tous les êtres "}
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

STDIN = "-"
# Bytes that are taken from a file at once.
PART = 1 << 14
FORM = 'must be {"session": name, "text": text}'


class TextPart(NamedTuple):
    """More of the text of a session; `ends`: there is no more."""

    session: str
    data: bytes
    ends: bool = False


def check_files(names: Sequence[str]) -> None:
    """Raise ValueError, with the nearest name, for a file that is not there."""
    for name in names:
        path = Path(name)
        if name == STDIN or path.is_file():
            continue
        if path.is_dir():
            raise ValueError(f"{name}: is a folder; name the files in it")
        parent = path.absolute().parent
        # A typo in the name is far more likely than one in the folder.
        near = difflib.get_close_matches(path.name, _files_in(parent), n=1)
        raise ValueError(f"{name}: no such file" + (f"; did you mean {path.with_name(near[0])}?" if near else ""))


def _files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def one_text(names: Sequence[str]) -> Iterator[TextPart]:
    """The files as one text, in order, under the name of them all."""
    session = text_name(names)
    for name in names:
        for data in file_parts(name):
            yield TextPart(session, data)


def text_name(names: Sequence[str]) -> str:
    """What one text of these files is called."""
    return ", ".join("standard input" if name == STDIN else name for name in names)


def side_by_side(names: Sequence[str], *, lanes: int, part: int) -> Iterator[TextPart]:
    """The files as texts of their own, `lanes` of them at a time, `part` bytes of each in turn."""
    waiting, active = iter(names), list[tuple[str, Iterator[bytes]]]()
    while True:
        while len(active) < lanes and (name := next(waiting, None)) is not None:
            active.append((name, file_parts(name, size=part)))
        if not active:
            return
        for name, parts in list(active):
            # A file that is over makes room for the next one in the next turn.
            data = next(parts, None)
            if data is None:
                active.remove((name, parts))
            yield TextPart(name, data or b"", ends=data is None)


def records(names: Sequence[str]) -> Iterator[TextPart]:
    """The records of JSON lines. Raises ValueError, naming the line, for what is none."""
    for name in names:
        with _opened(name) as file:
            for number, line in enumerate(file, start=1):
                # An empty line at the end of a file is no record.
                if line.strip():
                    record = _record(line, where=f"{text_name([name])}: line {number}")
                    # A long text comes in parts, so that memory stays flat.
                    for i in range(0, len(record.data), PART):
                        yield TextPart(record.session, record.data[i : i + PART])


def file_parts(name: str, *, size: int = PART) -> Iterator[bytes]:
    """A file in parts, as soon as there is something to read."""
    with _opened(name) as file:
        # A pipe gives what it has: a text that is still being written is read as it comes.
        read = file.read1 if name == STDIN else file.read  # type: ignore[attr-defined]
        while data := read(size):
            yield data


def _opened(name: str) -> BinaryIO:
    try:
        # A file number of its own, so that closing leaves the standard input open.
        return open(sys.stdin.fileno(), "rb", closefd=False) if name == STDIN else open(name, "rb")
    except OSError as error:
        raise ValueError(f"{name}: cannot be read: {error.strerror}") from error


def _record(line: bytes, *, where: str) -> TextPart:
    try:
        content = json.loads(line)
        session, text = content["session"], content["text"]
        if not isinstance(session, str) or not isinstance(text, str):
            raise ValueError(f"{where}: {FORM}")
        return TextPart(session, text.encode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}, byte {error.start}: not UTF-8 ({error.reason})") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: half of a pair of surrogates is no text ({error.object[error.start]!a})") from error
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{where}: {FORM}") from error
