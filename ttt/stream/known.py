"""What a model may know before a stream: fixed texts, and items with several options.

    The capital of France is | Rome  Paris  Madrid  Lisbon        the second option is right
    -> rows    The capital of France is Rome pad pad             only "Rome" is scored
               The capital of France is Paris pad                only "Paris" is scored

Shapes: R rows (one for each option of each item).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from ttt.stream.batch import Batch, Ints


@dataclass(frozen=True)
class Items:
    """Multiple-choice items; the options of an item are rows next to each other.

    `options`  how many options each item has
    `answers`  the right one of each item, from 0
    `bytes_R`  bytes of each option
    """

    rows: Batch
    options: Sequence[int]
    answers: Sequence[int]
    bytes_R: Tensor


@dataclass(frozen=True)
class KnownSets:
    """What is measured beside the stream, by the names that the user typed.

    `fingerprint`: a hash of it all; empty where nothing is measured.
    """

    texts: Mapping[str, Batch] = field(default_factory=dict)
    items: Mapping[str, Items] = field(default_factory=dict)
    fingerprint: str = ""


@runtime_checkable
class Textual(Protocol):
    """A source of text, which says what tokens any other text would have in it."""

    name: str

    def encode(self, text: str) -> Ints: ...
