"""Several sources as one: their classes side by side.

    parts   languages: 522 classes, code: 102 classes, prose: 16 classes
    ->      "languages/eng English", ..., "code/json", ..., "prose/types"

A part answers for its own classes: what it draws, measures and reads in one pass is what it does alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ttt.stream import Batch, Ints, Source, spread
from ttt.tasks.machinery.corpus import Corpus


@dataclass(kw_only=True, eq=False)
class Corpora:
    """All parts are running text in the same tokens. Units are numbered so that they tell their part."""

    name: str
    parts: dict[str, Source]
    vocab_size: int = field(init=False)
    fingerprint: str = field(init=False)
    example_len: int | None = field(init=False, default=None)
    vector_size: int | None = field(init=False, default=None)
    labels: range = field(init=False, default=range(0))
    symbols: range = field(init=False)
    rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        _check(self.parts)
        self._sources = list(self.parts.values())
        self.vocab_size = self._sources[0].vocab_size
        self.symbols = range(self.vocab_size)
        counts = [sum(map(len, source.families())) for source in self._sources]
        self._part = np.repeat(np.arange(len(counts)), counts)
        self._offset = np.cumsum([0, *counts[:-1]])
        content = [f"{name} {source.fingerprint}" for name, source in self.parts.items()]
        self.fingerprint = hashlib.sha256("\n".join(content).encode()).hexdigest()
        self.rows = dict(sum((Counter(source.rows) for source in self._sources), Counter[str]()))

    def families(self) -> Sequence[Sequence[int]]:
        pairs = zip(self._offset.tolist(), self._sources, strict=True)
        return [[offset + c for c in family] for offset, source in pairs for family in source.families()]

    def class_name(self, index: int) -> str:
        part = int(self._part[index])
        return f"{list(self.parts)[part]}/{self._sources[part].class_name(index - int(self._offset[part]))}"

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        """Each row is of any of `classes` with the same chance: first its part, then the part draws the class."""
        parts = self._part[rng.choice(classes, size=rows)]
        # Also where a part gives no row: it refuses a length that it could not serve.
        batches = [
            self._sources[p].draw(own, rows=int((parts == p).sum()), length=length, rng=rng)
            for p, own in self._by_part(classes)
        ]
        return _in_order(batches, parts)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        """With more classes than rows one row for each of some, evenly."""
        some = classes[spread(min(rows, len(classes)), over=len(classes))]
        counts = np.bincount(spread(rows, over=len(some)), minlength=len(some))
        pairs = zip(some, counts.tolist(), strict=True)
        return Batch.stack([self._of(c).evaluation(self._own(c), rows=n, length=length) for c, n in pairs])

    def eval_examples(self, classes: Ints) -> int | None:
        return None

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        found = []
        for p, own in self._by_part(classes):
            assert self._sources[p].per_row(length=length) == 1, "a row of running text is one unit"
            units = self._sources[p].units(own, length=length)
            if units is None:
                return None
            found.append(units * len(self._sources) + p)
        return np.concatenate(found)

    def take(self, units: Ints, *, length: int) -> Batch:
        parts, own = units[:, 0] % len(self._sources), units // len(self._sources)
        batches = [self._sources[p].take(own[parts == p], length=length) for p in np.flatnonzero(np.bincount(parts))]
        return _in_order(batches, parts)

    def per_row(self, *, length: int) -> int:
        return 1

    def entropy(self, classes: Ints) -> float:
        return float(np.mean([self._of(c).entropy(self._own(c)) for c in classes]))

    def show(self, tokens: Ints) -> str:
        return self._sources[0].show(tokens)

    def _of(self, index: int) -> Source:
        return self._sources[self._part[index]]

    def _own(self, index: int) -> Ints:
        """A class, as its part counts."""
        return np.array([index - self._offset[self._part[index]]])

    def _by_part(self, classes: Ints) -> Iterator[tuple[int, Ints]]:
        for p in range(len(self._sources)):
            own = classes[self._part[classes] == p] - self._offset[p]
            if len(own):
                yield p, own


def _in_order(batches: Sequence[Batch], parts: Ints) -> Batch:
    """Rows that stand part after part, put back to where `parts` says."""
    return Batch.stack(batches).pick(np.argsort(np.argsort(parts, kind="stable"), kind="stable"))


def _check(parts: dict[str, Source]) -> None:
    if not parts:
        raise ValueError("source.parts={}: name at least one source")
    for name, source in parts.items():
        if source.example_len is not None:
            raise ValueError(f"source.parts.{name}: has labelled examples, and corpora joins running text only")
        if isinstance(source, Corpus) and source.tokenizer.startswith("bpe-"):
            raise ValueError(
                f"source.parts.{name}.tokenizer={source.tokenizer}: each part would have symbols of its own, "
                "so that one number means different strings; corpora takes bytes"
            )
    sizes = {name: source.vocab_size for name, source in parts.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"source.parts: tokens differ in number: {said}; give all parts the same tokenizer")
