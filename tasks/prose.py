"""English prose that every Python brings along: the reference behind `help("topics")`.

    execmodel    A Python program is constructed from code blocks. A *block* is a piece of Python...
    types        Below is a list of the types that are built into Python.  Extension modules...

A class is a topic that is long enough to be cut; all short topics together, by name, are the class
"short topics", because a class by first letter would be about nothing. Many topics are passages of
other ones, so a topic that stands in longer topics is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.documents import Document
from ttt.tasks.machinery.spans import SPAN, repeats, span_hashes

# Where longer topics hold more than this share of a topic, the topic is a passage of them.
PASSAGE = 0.1
SHORT = "short topics"


@dataclass(kw_only=True, eq=False)
class Prose(Corpus):
    """About sixteen classes; their content depends on the version of Python."""

    min_bytes: ClassVar[int] = 6000

    def documents(self) -> Iterator[Document]:
        topics = _without_passages(_topics())
        for group, (name, text) in enumerate(sorted(topics.items())):
            if len(text.encode()) >= self.least:
                yield Document(name, group, text)
            else:
                # A group number that no long topic has.
                yield Document(SHORT, len(topics), text)

    def recipe(self) -> Mapping[str, Any]:
        text = "\n".join(f"{name}\n{text}" for name, text in sorted(_topics().items()))
        return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "passage": PASSAGE}


def _topics() -> dict[str, str]:
    # Deferred: half a megabyte of text that `ttt-run --help` does not need.
    from pydoc_data.topics import topics

    return dict(topics)


def _without_passages(topics: Mapping[str, str]) -> dict[str, str]:
    """Return the topics that are not a passage of a longer one."""
    distinct: dict[str, str] = {}
    # From the longest on: a passage can only be recognised after the topic that holds it.
    for name, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        data = np.frombuffer(text.encode(), np.uint8)
        spans = span_hashes([np.frombuffer(longer.encode(), np.uint8) for longer in distinct.values()])
        if len(repeats(data, spans)) <= PASSAGE * max(len(data) - SPAN + 1, 0):
            distinct[name] = text
    return distinct
