"""From the documents of some classes to the rows that are prepared, and from those to arrays.

    Document("json", 57, "...")   ->   json   57   train   every token of its first 80 %
    Document("json", 57, "...")        json   57   eval    the next tokens, up to what a train part holds too
                                       json   57   eval    the tokens behind that

What is left out leaves a row without tokens, so that it can be counted whenever the data is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttt.stream import Ints
from ttt.tasks.machinery.spans import Bytes, clean_runs, known_spans, whole_characters
from ttt.tasks.machinery.tokenizers import Tokens

# Raise it when the same documents are cut in another way.
CUT = 1
# The most that one class may hold: Arrow counts the bytes of a text in 32 bits.
MOST_BYTES = 2**31 - 1
TRAIN, EVAL, LEFT_OUT, UNREADABLE = "train", "eval", "left out", "unreadable"


class Document(NamedTuple):
    """A piece of the text of `class_name`. Classes of one `group` share wording. `text` None: it cannot be read."""

    class_name: str
    group: int
    text: str | None


class Layout(NamedTuple):
    """Prepared rows as columns; row i holds `tokens[start[i]:end[i]]`."""

    names: list[str]
    groups: list[int]
    parts: NDArray[np.str_]
    start: Ints
    end: Ints
    tokens: Tokens

    def rows(self, part: str) -> Ints:
        return np.flatnonzero(self.parts == part)

    def text(self, row: int) -> str:
        """Of a row of bytes."""
        return self.tokens[self.start[row] : self.end[row]].tobytes().decode("utf-8")


def row(name: str, group: int, part: str, tokens: Tokens) -> dict[str, Any]:
    return {"name": name, "group": group, "part": part, "tokens": tokens}


def cut_documents(
    documents: Iterable[Document], *, eval_share: float, min_bytes: int, asked: str
) -> Iterator[dict[str, Any]]:
    """For each class its train part and the clean runs of its eval part, as bytes; and what was left out.

    Raises ValueError, beginning with `asked`, when no class is left or one is too large.
    """
    classes, unreadable = _texts(documents)
    nothing = np.empty(0, np.uint8)
    cuts = {name: _cut(text, eval_share) for name, (_, text) in classes.items() if len(text) >= min_bytes}
    known = known_spans([classes[name][1][:cut] for name, cut in cuts.items()])
    kept = 0
    for name, (group, text) in classes.items():
        if len(text) > MOST_BYTES:
            raise ValueError(f"{asked}: class {name!r} holds {len(text)} bytes of text; {MOST_BYTES} is the most")
        cut = cuts.get(name, len(text))
        runs = clean_runs(text[cut:], known)
        if max((end - start for start, end in runs), default=0) < min_bytes * eval_share / 2:
            yield row(name, group, LEFT_OUT, nothing)
            continue
        kept += 1
        yield row(name, group, TRAIN, text[:cut])
        yield from (row(name, group, EVAL, text[cut + start : cut + end]) for start, end in runs)
    yield from (row(name, 0, UNREADABLE, nothing) for name in unreadable)
    if not kept:
        raise ValueError(
            f"{asked}: no class has {min_bytes} bytes of UTF-8 text with an eval part (source.eval_share="
            f"{eval_share}) of its own"
        )


def layout(data: Any) -> Layout:
    """Of a prepared dataset; the tokens are Arrow's own memory where they lie in one piece."""
    columns = {name: data.data.column(name) for name in ("name", "group", "part", "tokens")}
    pieces = [chunk.flatten().to_numpy() for chunk in columns["tokens"].chunks]
    lengths = np.concatenate([chunk.value_lengths().to_numpy() for chunk in columns["tokens"].chunks])
    end = np.cumsum(lengths, dtype=np.int64)
    return Layout(
        names=columns["name"].to_pylist(),
        groups=columns["group"].to_pylist(),
        parts=np.array(columns["part"].to_pylist()),
        start=end - lengths,
        end=end,
        tokens=pieces[0] if len(pieces) == 1 else np.concatenate(pieces),
    )


def _texts(documents: Iterable[Document]) -> tuple[dict[str, tuple[int, Bytes]], list[str]]:
    """Group and text of each class, and the classes of what cannot be read."""
    groups: dict[str, int] = {}
    texts: dict[str, list[str]] = {}
    unreadable = []
    for name, group, text in documents:
        groups.setdefault(name, group)
        parts = texts.setdefault(name, [])
        if text is None:
            unreadable.append(name)
        else:
            parts.append(text)
    # Half a surrogate pair has no UTF-8 of its own.
    data = {name: "\n".join(parts).encode("utf-8", errors="replace") for name, parts in texts.items()}
    return {name: (groups[name], np.frombuffer(text, np.uint8)) for name, text in data.items()}, unreadable


def _cut(text: Bytes, eval_share: float) -> int:
    """The first line break behind the train share: no paragraph stands on both sides. Without one, a character."""
    share = len(text) * (1 - eval_share)
    breaks = np.flatnonzero(text[:-1] == ord("\n")) + 1
    behind = int(np.searchsorted(breaks, share))
    return int(breaks[behind]) if behind < len(breaks) else whole_characters(text, 0, int(share))[1]
