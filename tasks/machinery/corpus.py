"""What all sources of running text share: cut, clean, tokenise, prepare, read windows.

    class "eng English"   train   ...All human beings are born free and equal in dignity...
                          eval    Article 25\\nEveryone has the right to a standard of living...

A subclass provides the documents (`documents`) and what they depend on (`recipe`).
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from ttt.stream import Batch, Ints, spread, whole_rows
from ttt.tasks.machinery.coding import TextCache
from ttt.tasks.machinery.documents import (
    CUT,
    EVAL,
    LEFT_OUT,
    TRAIN,
    UNREADABLE,
    Document,
    PreparedText,
    cut_documents,
)
from ttt.tasks.machinery.model_tokenizer import ModelTokenizer, read_tokenizer
from ttt.tasks.machinery.spans import SPAN
from ttt.tasks.machinery.tokenizers import BpeTokenizer, ByteTokenizer, Tokenizer, bpe_symbols, visible
from ttt.tasks.machinery.users_code import code_of
from ttt.tasks.machinery.whole import rows_side_by_side


@dataclass(kw_only=True, eq=False)
class Corpus(ABC):
    """One class per text; its last `eval_share`, from a line break on, is its eval part.

    Spans that any train part holds too are cut out of eval parts, which leaves runs. A class is
    left out when its text is below `least`, or when none of its runs is half as long as the eval
    part of a text of `least`. `model_tokenizer` returns the tokenizer.json of the model.
    """

    name: str
    eval_share: Annotated[float, Interval(gt=0, lt=1)]
    tokenizer: str
    cache_dir: str
    least_bytes: Annotated[int, Ge(1)] | None = None
    model_tokenizer: InitVar[Callable[[], str] | None] = None
    vocab_size: int = field(init=False)
    fingerprint: str = field(init=False)
    example_len: int | None = field(init=False, default=None)
    vector_size: int | None = field(init=False, default=None)
    labels: range = field(init=False, default=range(0))
    symbols: range = field(init=False)
    token_bytes: Ints | None = field(init=False)
    rows: dict[str, int] = field(init=False)
    min_bytes: ClassVar[int]

    def __post_init__(self, model_tokenizer: Callable[[], str] | None) -> None:
        recipe: dict[str, Any] = {"cut": CUT, "span": SPAN, "eval_share": self.eval_share, "min_bytes": self.least}
        # All that determines the prepared rows, but for the tokenizer.
        recipe |= {"documents": dict(self.recipe())}
        code = code_of(type(self).__module__)
        recipe |= {"code": code} if code else {}
        cache = TextCache(folder=self.cache_dir, name=self.name, recipe=recipe, rows=self._cut)
        self._coder, content = self._tokenizer(cache, model_tokenizer)
        self.vocab_size, self.token_bytes = self._coder.vocab_size, self._coder.token_bytes
        self.symbols = range(self.vocab_size)
        text = cache.encoded(self._coder, tokenizer=self.tokenizer, content=content) if content else cache.text()
        self._read(text)
        # A tokenizer that was trained on the text follows from it; that of a model does not.
        self.fingerprint = _fingerprint(text, tokenizer=content if self.tokenizer == "model" else "")

    @abstractmethod
    def documents(self) -> Iterable[Document]:
        """Return all documents; those of a class, joined by line breaks, are its text."""

    @abstractmethod
    def recipe(self) -> Mapping[str, Any]:
        """Return all that determines the documents, including hashes of what they are read from."""

    @property
    def least(self) -> int:
        """The bytes that a class must have: those that were typed, or `min_bytes`."""
        return self.min_bytes if self.least_bytes is None else self.least_bytes

    def typed(self) -> str:
        """Return what the user typed to get this corpus; refusals begin with it."""
        return f"source={self.name}"

    def families(self) -> Sequence[Sequence[int]]:
        members: dict[int, list[int]] = {}
        for index, group in enumerate(self._groups):
            members.setdefault(group, []).append(index)
        return list(members.values())

    def class_name(self, index: int) -> str:
        return self._names[index]

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        """Draw windows of train parts: first the class, then a place in it, both evenly."""
        self._check_length(classes, length)
        class_B = rng.choice(classes, size=rows)
        # The last start leaves one token after the window, for the last target.
        room_B = self._end[class_B] - self._start[class_B] - length
        return self._windows(self._start[class_B] + rng.integers(0, room_B), length)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        """Return fixed windows of eval parts, evenly; with few rows, of some classes only."""
        some = classes[spread(min(rows, len(classes)), over=len(classes))]
        counts = np.bincount(spread(rows, over=len(some)), minlength=len(some))
        starts = [self._eval_starts(int(c), int(count), length) for c, count in zip(some, counts, strict=True)]
        return self._windows(np.concatenate(starts), length)

    def whole_evaluation(self, classes: Ints, *, length: int) -> Batch:
        """Return all runs of the eval parts of `classes` in rows of `length` tokens."""
        # A class has several runs where spans of its eval part were cut out.
        starts, ends = (np.concatenate([self._runs[c][k] for c in classes]) for k in (0, 1))
        return rows_side_by_side(self._tokens, starts, ends, length=length)

    def eval_examples(self, classes: Ints) -> int | None:
        return None

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        """Return the starts of windows of `length` tokens, side by side in each train part.

        What is left at the end of a train part and does not fill a window is in no unit.
        """
        self._check_length(classes, length)
        return np.concatenate([np.arange(self._start[c], self._end[c] - length, length) for c in classes])

    def take(self, units: Ints, *, length: int) -> Batch:
        return self._windows(units.reshape(-1), length)

    def per_row(self, *, length: int) -> int:
        return 1

    def entropy(self, classes: Ints) -> float:
        return float("nan")

    def show(self, tokens: Ints) -> str:
        return visible(self._coder.decode(tokens))

    def encode(self, text: str) -> Ints:
        return self._coder.encode(text).astype(np.int64)

    def eval_texts(self) -> list[str]:
        """Return the pieces of text that make up the eval parts, class after class."""
        runs = (run for starts, ends in self._runs for run in zip(starts, ends, strict=True))
        return [self._coder.decode(self._tokens[start:end]) for start, end in runs]

    def _check_length(self, classes: Ints, length: int) -> None:
        sizes = self._end[classes] - self._start[classes]
        if sizes.min() <= length:
            name, size = self._names[classes[sizes.argmin()]], sizes.min()
            raise ValueError(
                f"task.seq_len={length}: longer than the train part of {name!r} ({size} tokens); "
                f"{size - 1} is the most that fits"
            )

    def _eval_starts(self, index: int, count: int, length: int) -> Ints:
        """Return `count` starts, evenly over all places where a window lies inside one run."""
        starts, ends = self._runs[index]
        feasible = (ends - starts - length).clip(min=0)
        # The places of all runs are numbered end to end; each run's numbers stop below its total.
        total = np.cumsum(feasible)
        if not total[-1]:
            longest = (ends - starts).max()
            raise ValueError(
                f"task.seq_len={length}: longer than the eval part of {self._names[index]!r} ({longest} tokens "
                f"in one piece); {longest - 1} is the most that fits"
            )
        places = np.linspace(0, total[-1] - 1, count).astype(np.int64)
        # A place belongs to the first run whose running total exceeds it.
        run = np.searchsorted(total, places, side="right")
        return starts[run] + places - (total - feasible)[run]

    def _windows(self, starts: Ints, length: int) -> Batch:
        # One token more than a row has: the last one is a target only.
        window = self._tokens[starts[:, None] + np.arange(length + 1)]
        return whole_rows(window[:, :-1], window[:, 1:])

    def _tokenizer(self, cache: TextCache, model_tokenizer: Callable[[], str] | None) -> tuple[Tokenizer, str]:
        """Return the tokenizer and its JSON, which is empty for bytes."""
        symbols = bpe_symbols(self.tokenizer)
        if symbols is not None:
            content = cache.trained(symbols=symbols)
            return BpeTokenizer(content, vocab_size=symbols), content
        if self.tokenizer == "bytes":
            return ByteTokenizer(), ""
        content = read_tokenizer(model_tokenizer)
        return ModelTokenizer(content), content

    def _cut(self) -> Iterable[Mapping[str, Any]]:
        return cut_documents(self.documents(), eval_share=self.eval_share, min_bytes=self.least, typed=self.typed())

    def _read(self, text: PreparedText) -> None:
        train, runs = text.rows(TRAIN), text.rows(EVAL)
        self._tokens = text.tokens
        self._names = [text.names[i] for i in train]
        self._groups = [text.groups[i] for i in train]
        self._start, self._end = text.start[train], text.end[train]
        # The eval runs of a class follow its train part.
        runs_of_class = np.split(runs, np.searchsorted(runs, train[1:]))
        self._runs = [(text.start[i], text.end[i]) for i in runs_of_class]
        self.rows = {
            "classes": len(train),
            "train tokens": int((self._end - self._start).sum()),
            "eval tokens": int((text.end[runs] - text.start[runs]).sum()),
        }
        left = {"classes left out": LEFT_OUT, "documents left out": UNREADABLE}
        self.rows |= {what: len(text.rows(part)) for what, part in left.items() if len(text.rows(part))}


def _fingerprint(text: PreparedText, *, tokenizer: str) -> str:
    # Names and sizes too: the same bytes cut into other classes are another corpus.
    sizes = (text.end - text.start).tolist()
    digest = hashlib.sha256(json.dumps([text.names, text.groups, text.parts.tolist(), sizes]).encode())
    digest.update(text.tokens.data)
    # Equal numbers under another tokenizer are another text.
    digest.update(tokenizer.encode())
    return digest.hexdigest()
