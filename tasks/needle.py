"""A needle in a haystack: a few sentences in a long text, asked for at the end.

    city        ...the list is sorted. The secret number of Lima is 3851047. A class body is...
                What is the secret number of Lima? The secret number of Lima is | 3851047.

Only what stands behind the bar is scored: whoever gets all of it right retrieves the needle when
decoding greedily. The other kinds are those of RULER (arXiv 2404.06654), see
ttt.tasks.machinery.needle_kinds; their haystack is prose that every Python brings along, or noise.
Shapes: B rows, T time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge

from ttt.stream import IGNORE, Batch, Ints, spread, whole_rows
from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.endless import Endless
from ttt.tasks.machinery.hidden_values import Value
from ttt.tasks.machinery.needle_kinds import KindName, kind_of_needle
from ttt.tasks.machinery.puzzles import Puzzle, Space

# Part of the key of every eval generator, so that training cannot draw the same sequences.
EVAL = 1
NOISE = " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
# Tokens of the windows that are joined where a haystack is longer than any text.
PIECE = 256
# Returns some rows of the haystack's text, of some length.
Windows = Callable[[int, int], Batch]


class Needle(Endless):
    """One class for each part of the haystack in which the needles may lie.

    Arguments are explained in conf/source/needle.yaml.
    """

    def __init__(
        self,
        *,
        name: str,
        haystack: Corpus,
        depths: Annotated[int, Ge(1)],
        digits: Annotated[int, Ge(1)],
        present: bool,
        kind: KindName = "city",
        value: Value | None = None,
        count: Annotated[int, Ge(1)] | None = None,
        others: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        self._kind = kind_of_needle(kind, digits=digits, value=value, count=count, others=others)
        self.name, self._haystack, self._present = name, haystack, present
        self._depths = 1 if self._kind.is_listing else depths
        self.vocab_size, self.token_bytes = haystack.vocab_size, haystack.token_bytes
        self.symbols, self.rows = range(0), haystack.rows
        settings = [haystack.fingerprint, self._depths, digits, present, *self._kind.recipe]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        self._everything = np.array([index for family in haystack.families() for index in family])

    def families(self) -> Sequence[Sequence[int]]:
        return [[index] for index in range(self._depths)]

    def class_name(self, index: int) -> str:
        if self._kind.is_listing:
            return "everywhere"
        return f"depth {100 * index // self._depths}-{100 * (index + 1) // self._depths} %"

    def distances(self, index: int, *, length: int) -> tuple[int, int]:
        """Return how many tokens before the answer a needle of a class stands: least and most."""
        least, most = (self._depths - index - 1, self._depths - index)
        return least * length // self._depths, most * length // self._depths

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        def windows(count: int, size: int) -> Batch:
            return self._haystack.draw(self._everything, rows=count, length=size, rng=rng)

        hay_BT = self._hay(windows, rows=rows, length=length)
        return self._rows(hay_BT, rng.choice(classes, size=rows), rng)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        def windows(count: int, size: int) -> Batch:
            return self._haystack.evaluation(self._everything, rows=count, length=size)

        hay_BT = self._hay(windows, rows=rows, length=length)
        depth_B = classes[spread(rows, over=len(classes))]
        return self._rows(hay_BT, depth_B, np.random.default_rng([EVAL, int(classes[0])]))

    def entropy(self, classes: Ints) -> float:
        """Return 0 bits where the answer stands in the text; how hard guessing is, is not known."""
        return 0.0 if self._present else float("nan")

    def show(self, tokens: Ints) -> str:
        return self._haystack.show(tokens)

    def _hay(self, windows: Windows, *, rows: int, length: int) -> Ints:
        """Return the text in which needles are hidden [B, T]."""
        if self._kind.hay == "noise":
            # The same in training and evaluation: it is there to be skipped, not to be learned.
            noise = self._haystack.encode(NOISE)
            return np.tile(noise, (rows, -(-length // len(noise))))[:, :length]
        if self._kind.hay == "window":
            return windows(rows, length).tokens_BT.numpy()
        size = min(PIECE, length)
        pieces = -(-length // size)
        # Windows next to each other are often of one text: a row takes every B-th.
        all_windows = windows(rows * pieces, size).tokens_BT.numpy().reshape(pieces, rows, size)
        return all_windows.swapaxes(0, 1).reshape(rows, -1)[:, :length]

    def _rows(self, hay_BT: Ints, depth_B: Ints, rng: np.random.Generator) -> Batch:
        """Return rows as long as the haystack's, with needles and, at the end, the question."""
        rows = [self._row(hay_T, int(depth), rng) for hay_T, depth in zip(hay_BT, depth_B, strict=True)]
        tokens, targets = zip(*rows, strict=True)
        return whole_rows(np.stack(tokens), np.stack(targets))

    def _row(self, hay_T: Ints, depth: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        # One token more than a row has: the last one is a target only.
        space = Space(len(hay_T) + 1, lambda text: len(self._haystack.encode(text)))
        puzzle = self._kind.puzzle(rng, present=self._present, space=space)
        question, answer = self._haystack.encode(puzzle.question), self._haystack.encode(puzzle.answer)
        text = self._text(hay_T, puzzle, depth, rng, room=space.tokens - len(question) - len(answer))
        window = np.concatenate([*text, question, answer])
        targets = window[1:].copy()
        targets[: len(targets) - len(answer)] = IGNORE
        return window[:-1], targets

    def _text(self, hay_T: Ints, puzzle: Puzzle, depth: int, rng: np.random.Generator, *, room: int) -> list[Ints]:
        """Return the pieces of the text before the question, `room` tokens in all."""
        codes = {text: self._haystack.encode(text) for text in {*puzzle.listing, *puzzle.hidden, *puzzle.others}}
        listing = [codes[text] for text in puzzle.listing]
        needles = [codes[text] for text in (*puzzle.hidden, *puzzle.others)]
        room -= sum(map(len, (*listing, *needles)))
        # Each part needs a place; a list may fill the text to its end.
        if needles and room < self._depths:
            short = len(hay_T) - room + self._depths
            raise ValueError(f"task.seq_len={len(hay_T)}: too short for a needle and its question; at least {short}")
        # In the order of the puzzle, which a chain needs, within the part of the class.
        inside = (depth + np.sort(rng.random(len(puzzle.hidden)))) * room / self._depths
        # What only looks like a needle may lie anywhere, also outside of the part of the class.
        places = [*inside.astype(int), *(rng.random(len(puzzle.others)) * room).astype(int)]
        text, start = [], 0
        for k in np.argsort(places, kind="stable"):
            text += [hay_T[start : places[k]], needles[k]]
            start = places[k]
        return [*text, hay_T[start:room], *listing]
