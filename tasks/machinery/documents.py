"""From the documents of classes to the rows that are prepared, and from those rows to arrays.

    Document("json", 57, "...")   ->   json   57   train   every token of its first 80 %
    Document("json", 57, "...")        json   57   eval    the next ones, to a span of a train part
                                       json   57   eval    the tokens after that span

What is left out leaves a row without tokens, so that it is counted whenever the data are opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ttt.stream import Ints
from ttt.tasks.machinery.spans import Bytes, clean_runs, span_hashes, whole_characters
from ttt.tasks.machinery.tokenizers import Tokens

if TYPE_CHECKING:
    import pyarrow as pa

# Raise this number when the same documents are cut in another way.
CUT = 1
# The most bytes of a class: Arrow counts the bytes of a text in 32 bits.
MOST_BYTES = 2**31 - 1
TRAIN, EVAL, LEFT_OUT, UNREADABLE = "train", "eval", "left out", "unreadable"


class Document(NamedTuple):
    """A piece of the text of `class_name`.

    `group`: classes of one group share wording. `text`: None if the document cannot be read.
    """

    class_name: str
    group: int
    text: str | None


class PreparedText(NamedTuple):
    """Prepared rows as columns; row i holds `tokens[start[i]:end[i]]`."""

    names: list[str]
    groups: list[int]
    parts: NDArray[np.str_]
    start: Ints
    end: Ints
    tokens: Tokens

    def rows(self, part: str) -> Ints:
        """Return the indices of the rows of one part."""
        return np.flatnonzero(self.parts == part)

    def text(self, row: int) -> str:
        """Return a row of bytes as text."""
        return self.tokens[self.start[row] : self.end[row]].tobytes().decode("utf-8")


def prepared_row(name: str, group: int, part: str, tokens: Tokens) -> dict[str, Any]:
    """Return a row as it is written to the cache."""
    return {"name": name, "group": group, "part": part, "tokens": tokens}


def cut_documents(
    documents: Iterable[Document], *, eval_share: float, min_bytes: int, typed: str
) -> Iterator[dict[str, Any]]:
    """Yield the train part and the clean eval runs of each class, then what is left out.

    Raises ValueError, beginning with `typed`, when no class is left or one is too large.
    """
    classes, unreadable = _texts(documents)
    nothing = np.empty(0, np.uint8)
    cuts = {name: _cut(text, eval_share) for name, (_, text) in classes.items() if len(text) >= min_bytes}
    # Spans of the train parts of all classes: texts quote each other across classes.
    train_spans = span_hashes([classes[name][1][:cut] for name, cut in cuts.items()])
    is_empty = True
    for name, (group, text) in classes.items():
        if len(text) > MOST_BYTES:
            raise ValueError(f"{typed}: class {name!r} holds {len(text)} bytes of text; {MOST_BYTES} is the most")
        # A class that is too small has no cut, hence no runs, and is left out below.
        cut = cuts.get(name, len(text))
        runs = clean_runs(text[cut:], train_spans)
        if max((end - start for start, end in runs), default=0) < min_bytes * eval_share / 2:
            yield prepared_row(name, group, LEFT_OUT, nothing)
            continue
        is_empty = False
        yield prepared_row(name, group, TRAIN, text[:cut])
        yield from (prepared_row(name, group, EVAL, text[cut + start : cut + end]) for start, end in runs)
    yield from (prepared_row(name, 0, UNREADABLE, nothing) for name in unreadable)
    if is_empty:
        raise ValueError(
            f"{typed}: no class has {min_bytes} bytes of UTF-8 text with an eval part (source.eval_share="
            f"{eval_share}) of its own"
        )


def prepared_text(table: pa.Table) -> PreparedText:
    """Return prepared rows as columns."""
    columns = {name: table.column(name) for name in ("name", "group", "part", "tokens")}
    # By DLPack: Arrow's own `to_numpy` would import pandas.
    pieces: list[Any] = [np.from_dlpack(chunk.flatten()) for chunk in columns["tokens"].chunks]
    # From lengths, not from Arrow's offsets, which begin anew in each chunk.
    lengths = np.concatenate([np.from_dlpack(chunk.value_lengths()) for chunk in columns["tokens"].chunks])
    end = np.cumsum(lengths, dtype=np.int64)
    return PreparedText(
        names=columns["name"].to_pylist(),
        groups=columns["group"].to_pylist(),
        parts=np.array(columns["part"].to_pylist()),
        start=end - lengths,
        end=end,
        # In one piece the tokens stay Arrow's own memory, mapped from the file and not copied.
        tokens=pieces[0] if len(pieces) == 1 else np.concatenate(pieces),
    )


def _texts(documents: Iterable[Document]) -> tuple[dict[str, tuple[int, Bytes]], list[str]]:
    """Return group and text of each class, and the class of each document that cannot be read."""
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
    # Replaced, since half a surrogate pair has no UTF-8 encoding.
    data = {name: "\n".join(parts).encode("utf-8", errors="replace") for name, parts in texts.items()}
    return {name: (groups[name], np.frombuffer(text, np.uint8)) for name, text in data.items()}, unreadable


def _cut(text: Bytes, eval_share: float) -> int:
    """Return where the eval part begins: after the first line break behind the train share.

    So no paragraph stands on both sides. Without a line break it begins at a character.
    """
    share = len(text) * (1 - eval_share)
    # Not the last byte: a break there would leave an empty eval part.
    breaks = np.flatnonzero(text[:-1] == ord("\n")) + 1
    nearest = int(np.searchsorted(breaks, share))
    return int(breaks[nearest]) if nearest < len(breaks) else whole_characters(text, 0, int(share))[1]
