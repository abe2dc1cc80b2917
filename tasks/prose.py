"""English prose that every Python brings along: the reference behind `help("topics")`.

    execmodel    A Python program is constructed from code blocks. A *block* is a piece of Python program text...
    types        Below is a list of the types that are built into Python.  Extension modules (written in C...

A class is a topic long enough to be cut; the short ones, one after the other, are the class "short topics".
By subject rather than by letter: a class should be about something. Many topics are passages of others, so only
what is new counts, from the longest topic to the shortest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.spans import SPAN, known_spans, repeats

# A topic of which more than this share stands in longer ones is a passage of them.
PASSAGE = 0.1
SHORT = "short topics"


@dataclass(kw_only=True, eq=False)
class Prose(Corpus):
    """Some sixteen classes; what they say depends on the Python."""

    min_bytes: ClassVar[int] = 6000

    def documents(self) -> Iterator[Document]:
        topics = _own_words(_topics())
        for group, (name, text) in enumerate(sorted(topics.items())):
            if len(text.encode()) >= self.min_bytes:
                yield Document(name, group, text)
            else:
                yield Document(SHORT, len(topics), text)

    def recipe(self) -> Mapping[str, Any]:
        text = "\n".join(f"{name}\n{text}" for name, text in sorted(_topics().items()))
        return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "passage": PASSAGE}


def _topics() -> dict[str, str]:
    # Imported here: half a megabyte that `ttt-run --help` need not read.
    from pydoc_data.topics import topics

    return dict(topics)


def _own_words(topics: Mapping[str, str]) -> dict[str, str]:
    """The topics that are no passage of a longer one."""
    kept: dict[str, str] = {}
    for name, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        data = np.frombuffer(text.encode(), np.uint8)
        known = known_spans([np.frombuffer(longer.encode(), np.uint8) for longer in kept.values()])
        if len(repeats(data, known)) <= PASSAGE * max(len(data) - SPAN + 1, 0):
            kept[name] = text
    return kept
