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

# Questions by whose answers two rules are told apart.
PROBES = 1024


@dataclass(kw_only=True, eq=False)
class Swapped(Rules, ABC):
    """Programs of one or two instructions, each with every pair of symbols.

    Two programs that answer alike are one, the shorter and first listed; one that repeats the question's own answer
    (`reverse reverse`) is none. A class is kept if no prompt and no class before it answers as it does.
    """

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(self.symbols, 2))

    def find_classes(self) -> list[Class]:
        question_BQ = self.ask(PROBES, rng=rng_of(0), lesson=False)
        words = range(len(self.instructions))
        prompts = [(NONE, NONE), *((w, NONE) for w in words), *product(words, repeat=SLOTS)]
        answers: dict[bytes, tuple[tuple[int, ...], Ints]] = {}
        for prompt in prompts:
            answer_BA = self.obey(np.tile(prompt, (PROBES, 1)), question_BQ)
            answers.setdefault(digest(answer_BA), (tuple(w for w in prompt if w != NONE), answer_BA))
        seen, classes = set(answers), []
        for program, answer_BA in answers.values():
            for part in range(len(self.pairs)) if program else ():
                known = digest(self.swapped(part, answer_BA))
                if known not in seen:
                    seen.add(known)
                    classes.append((program, part))
        return classes

    def hide(self, part: int, question_BQ: Ints, answer_BA: Ints) -> tuple[Ints, Ints]:
        return question_BQ, self.swapped(part, answer_BA)

    def swapped(self, part: int, answer_BA: Ints) -> Ints:
        names = np.arange(len(self.symbols), dtype=answer_BA.dtype)
        pair = list(self.pairs[part])
        names[pair] = pair[::-1]
        swapped_BA: Ints = names[answer_BA]
        return swapped_BA

    def part_name(self, part: int) -> str:
        return "then swap {} and {}".format(*self.pairs[part])


def digest(answer_BA: Ints) -> bytes:
    return hashlib.blake2b(answer_BA.astype(np.uint8).tobytes(), digest_size=16).digest()
