"""Rules whose hidden part is that two symbols of the answer change places.

Shapes: B rows, P prompt, Q question, A answer.
"""

from __future__ import annotations

import hashlib
from abc import ABC
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np

from ttt.stream import Ints
from ttt.tasks.machinery.rules import NONE, SLOTS, Class, Rules, rng_of

# Two rules are the same if they answer this many questions alike.
PROBES = 1024


@dataclass(kw_only=True, eq=False)
class Swapped(Rules, ABC):
    """Programs of one or two instructions, each with every pair of symbols.

    Of programs that answer alike only the shortest, first listed counts; a program that repeats the
    question's own answer (`reverse reverse`) does not count. A class is kept if no prompt and no
    class before it answers as it does.
    """

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(self.symbols, 2))

    def find_classes(self) -> list[Class]:
        # Fixed questions: which classes there are must not depend on a run's seed.
        question_BQ = self.ask(PROBES, rng=rng_of(0), lesson=False)
        words = range(len(self.instructions))
        # From short to long: of programs that answer alike the shortest is met first. The empty one
        # comes first of all, so that programs without effect fall together with it.
        prompts = [(NONE, NONE), *((w, NONE) for w in words), *product(words, repeat=SLOTS)]
        answers: dict[bytes, tuple[tuple[int, ...], Ints]] = {}
        for prompt in prompts:
            answer_BA = self.obey(np.tile(prompt, (PROBES, 1)), question_BQ)
            answers.setdefault(_answer_hash(answer_BA), (tuple(w for w in prompt if w != NONE), answer_BA))
        seen, classes = set(answers), []
        for program, answer_BA in answers.values():
            for part in range(len(self.pairs)) if program else ():
                hidden = _answer_hash(self.swapped(part, answer_BA))
                if hidden not in seen:
                    seen.add(hidden)
                    classes.append((program, part))
        return classes

    def hide(self, part: int, question_BQ: Ints, answer_BA: Ints) -> tuple[Ints, Ints]:
        return question_BQ, self.swapped(part, answer_BA)

    def swapped(self, part: int, answer_BA: Ints) -> Ints:
        """Return answers [B, A] in which the two symbols of pair `part` change places."""
        names = np.arange(len(self.symbols), dtype=answer_BA.dtype)
        pair = list(self.pairs[part])
        # This is a table of all symbols with two exchanged: one look-up swaps them everywhere.
        names[pair] = pair[::-1]
        swapped_BA: Ints = names[answer_BA]
        return swapped_BA

    def part_name(self, part: int) -> str:
        return "then swap {} and {}".format(*self.pairs[part])


def _answer_hash(answer_BA: Ints) -> bytes:
    # A hash in place of the answers: there are thousands of rules, with 1024 answers each.
    return hashlib.blake2b(answer_BA.astype(np.uint8).tobytes(), digest_size=16).digest()
