"""A needle in a haystack: one sentence in a long text, asked for at the end.

    ...the list is sorted. The secret number of Lima is 38 51 04 7. A class body is executed...
    What is the secret number of Lima? The secret number of Lima is | 3 8 5 1 0 4 7 .

Only what stands behind the bar is scored: whoever gets all of it right retrieves the needle when
decoding greedily. S-NIAH of RULER (arXiv 2404.06654), in prose that every Python brings along.
Shapes: B rows, T time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Ge

from ttt.stream import IGNORE, Batch, Ints, spread, whole_rows
from ttt.tasks.machinery.corpus import Corpus
from ttt.tasks.machinery.endless import Endless

# Part of the key of every eval generator, so that training cannot draw the same sequences.
EVAL = 1
CITIES = (
    "Lima", "Oslo", "Cairo", "Quito", "Hanoi", "Tunis", "Dakar", "Riga", "Sofia", "Accra", "Delhi", "Turin", "Perth",
    "Osaka", "Bergen", "Leeds",
)  # fmt: skip
NEEDLE = " The secret number of {city} is {number}."
QUESTION = "\nWhat is the secret number of {city}? The secret number of {city} is"
ANSWER = " {number}."


class Needle(Endless):
    """One class for each part of the haystack in which the needle may lie.

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
    ) -> None:
        self.name, self._haystack, self._depths, self._digits, self._present = name, haystack, depths, digits, present
        self.vocab_size, self.token_bytes = haystack.vocab_size, haystack.token_bytes
        self.symbols, self.rows = range(0), haystack.rows
        settings = [haystack.fingerprint, depths, digits, present, CITIES, NEEDLE, QUESTION, ANSWER]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        self._everything = np.array([index for family in haystack.families() for index in family])

    def families(self) -> Sequence[Sequence[int]]:
        return [[index] for index in range(self._depths)]

    def class_name(self, index: int) -> str:
        return f"depth {100 * index // self._depths}-{100 * (index + 1) // self._depths} %"

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        hay_BT = self._haystack.draw(self._everything, rows=rows, length=length, rng=rng).tokens_BT.numpy()
        return self._rows(hay_BT, rng.choice(classes, size=rows), rng)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        hay_BT = self._haystack.evaluation(self._everything, rows=rows, length=length).tokens_BT.numpy()
        depth_B = classes[spread(rows, over=len(classes))]
        return self._rows(hay_BT, depth_B, np.random.default_rng([EVAL, int(classes[0])]))

    def entropy(self, classes: Ints) -> float:
        """Return 0 bits where the answer stands in the text, else those of its digits."""
        return 0.0 if self._present else float("nan")

    def show(self, tokens: Ints) -> str:
        return self._haystack.show(tokens)

    def _rows(self, hay_BT: Ints, depth_B: Ints, rng: np.random.Generator) -> Batch:
        """Return rows as long as the haystack's, with a needle and, at the end, the question."""
        rows = [self._row(hay_T, int(depth), rng) for hay_T, depth in zip(hay_BT, depth_B, strict=True)]
        tokens, targets = zip(*rows, strict=True)
        return whole_rows(np.stack(tokens), np.stack(targets))

    def _row(self, hay_T: Ints, depth: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        city = CITIES[rng.integers(len(CITIES))]
        number = "".join(str(digit) for digit in rng.integers(0, 10, size=self._digits))
        # Without a needle another number stands there, so that nothing else differs.
        shown = number if self._present else "".join(str(digit) for digit in rng.integers(0, 10, size=self._digits))
        needle, question, answer = (
            self._haystack.encode(text.format(city=city, number=n))
            for text, n in ((NEEDLE, shown), (QUESTION, ""), (ANSWER, number))
        )
        # One token more than a row has: the last one is a target only.
        room = len(hay_T) + 1 - len(needle) - len(question) - len(answer)
        if room < self._depths:
            short = len(hay_T) - room + self._depths
            raise ValueError(f"task.seq_len={len(hay_T)}: too short for a needle and its question; at least {short}")
        place = int((depth + rng.random()) * room / self._depths)
        window = np.concatenate([hay_T[:place], needle, hay_T[place:room], question, answer])
        targets = window[1:].copy()
        targets[: len(targets) - len(answer)] = IGNORE
        return window[:-1], targets
