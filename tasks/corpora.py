"""Several sources as one: their classes side by side.

    parts   languages: 522 classes, code: 102 classes, prose: 16 classes
    ->      "languages/eng English", ..., "code/json", ..., "prose/types"

Each part serves its own classes: its draws, eval rows and passes are the same as without the other
parts.

Shapes: B rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ttt.stream import Batch, Ints, Source, Tagged, Textual, spread
from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.whole import WholeText


@dataclass(kw_only=True, eq=False)
class Corpora:
    """All parts are running text in the same tokens; classes are numbered part after part.

    A part that is None is left out.
    """

    name: str
    parts: dict[str, Source]
    vocab_size: int = field(init=False)
    fingerprint: str = field(init=False)
    example_len: int | None = field(init=False, default=None)
    vector_size: int | None = field(init=False, default=None)
    labels: range = field(init=False, default=range(0))
    symbols: range = field(init=False)
    token_bytes: Ints | None = field(init=False)
    rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.parts = {name: part for name, part in self.parts.items() if part is not None}
        _check(self.parts)
        self._sources = list(self.parts.values())
        self.vocab_size, self.token_bytes = self._sources[0].vocab_size, self._sources[0].token_bytes
        self.symbols = range(self.vocab_size)
        counts = [sum(map(len, source.families())) for source in self._sources]
        self._part = np.repeat(np.arange(len(counts)), counts)
        # The number of a class is its number within its part plus the offset of that part.
        self._offset = np.cumsum([0, *counts[:-1]])
        # Names count too: classes are called after them.
        content = [f"{name} {source.fingerprint}" for name, source in self.parts.items()]
        self.fingerprint = hashlib.sha256("\n".join(content).encode()).hexdigest()
        self.rows = dict(sum((Counter(source.rows) for source in self._sources), Counter[str]()))

    def families(self) -> Sequence[Sequence[int]]:
        pairs = zip(self._offset.tolist(), self._sources, strict=True)
        return [[offset + c for c in family] for offset, source in pairs for family in source.families()]

    def class_name(self, index: int) -> str:
        part = int(self._part[index])
        return f"{list(self.parts)[part]}/{self._sources[part].class_name(index - int(self._offset[part]))}"

    def tags(self, index: int) -> Mapping[str, str]:
        """Return the part of a class, and what that part says of the class."""
        source, within = self._of(index), int(self._within(index)[0])
        more = source.tags(within) if isinstance(source, Tagged) else {}
        return {"part": list(self.parts)[self._part[index]], **more}

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        """Draw the part of each row in proportion to its classes; the part then draws the class."""
        parts = self._part[rng.choice(classes, size=rows)]
        # A part with no row is called too: it refuses a length that it could not serve later.
        batches = [
            self._sources[p].draw(part_classes, rows=int((parts == p).sum()), length=length, rng=rng)
            for p, part_classes in self._by_part(classes)
        ]
        return _in_order(batches, parts)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        """Return eval rows evenly over `classes`: one row for some if there are fewer rows."""
        some = classes[spread(min(rows, len(classes)), over=len(classes))]
        counts = np.bincount(spread(rows, over=len(some)), minlength=len(some))
        pairs = zip(some, counts.tolist(), strict=True)
        return Batch.stack([self._of(c).evaluation(self._within(c), rows=n, length=length) for c, n in pairs])

    def whole_evaluation(self, classes: Ints, *, length: int) -> Batch:
        """Return the whole eval parts of `classes` in rows of `length` tokens."""
        return Batch.stack([self._whole(int(c), length) for c in classes])

    def _whole(self, index: int, length: int) -> Batch:
        source = self._of(index)
        if not isinstance(source, WholeText):
            raise ValueError(f"task.eval_sequences=all: source.parts.{source.name} generates sequences; give a number")
        return source.whole_evaluation(self._within(index), length=length)

    def eval_examples(self, classes: Ints) -> int | None:
        return None

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        numbers = []
        for p, part_classes in self._by_part(classes):
            assert self._sources[p].per_row(length=length) == 1, "a row of running text is one unit"
            units = self._sources[p].units(part_classes, length=length)
            # One endless part makes the whole endless: no pass would end.
            if units is None:
                return None
            # The remainder tells the part: `take` gets nothing but the numbers.
            numbers.append(units * len(self._sources) + p)
        return np.concatenate(numbers)

    def take(self, units: Ints, *, length: int) -> Batch:
        # A row of running text is one unit, so the first column says it all.
        parts, part_units = units[:, 0] % len(self._sources), units // len(self._sources)
        present = np.flatnonzero(np.bincount(parts))
        batches = [self._sources[p].take(part_units[parts == p], length=length) for p in present]
        return _in_order(batches, parts)

    def per_row(self, *, length: int) -> int:
        return 1

    def entropy(self, classes: Ints) -> float:
        return float(np.mean([self._of(c).entropy(self._within(c)) for c in classes]))

    def show(self, tokens: Ints) -> str:
        return self._sources[0].show(tokens)

    def encode(self, text: str) -> Ints:
        first = self._sources[0]
        if not isinstance(first, Textual):
            raise ValueError(f"source.parts={first.name}: holds no text, so that no other text has tokens in it")
        return first.encode(text)

    def _of(self, index: int) -> Source:
        """Return the source that holds class `index`."""
        return self._sources[self._part[index]]

    def _within(self, index: int) -> Ints:
        """Return class `index` by its number within its part: [1]."""
        return np.array([index - self._offset[self._part[index]]])

    def _by_part(self, classes: Ints) -> Iterator[tuple[int, Ints]]:
        """Yield each part that holds some of `classes`, with their numbers within the part."""
        for p in range(len(self._sources)):
            part_classes = classes[self._part[classes] == p] - self._offset[p]
            if len(part_classes):
                yield p, part_classes


def _in_order(batches: Sequence[Batch], parts: Ints) -> Batch:
    """Return rows that stand part after part in the order of `parts` [B]."""
    # Sorting a permutation inverts it: the first argsort is the order in which the rows stand.
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
                "and one token would stand for different strings; use bytes or model"
            )
    sizes = {name: source.vocab_size for name, source in parts.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"source.parts: tokens differ in number: {counts}; give all parts the same tokenizer")
