"""Problems whose answer follows from a hidden rule: instructions that a prompt can name, then a part that none can.

A lesson is text as the base itself would write it: where noise replaced a token of the answer, the next one is
predicted from the noisy one. A model that samples reads its own slips, so slips must not be strange to it; they
are what lets it find what no prompt says. Under the seed prompt half of the work is to guess the instructions.

Shapes: B rows, P prompt, Q question, A answer, S state while instructions are followed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ttt.stream import IGNORE, Batch, Ints, Layout, Prompt, spread, whole_rows
from ttt.tasks.machinery.problems import refuse

# Words that a prompt holds; a place that says nothing.
SLOTS, NONE = 2, -1
# Instructions of a class, and which of its hidden parts.
Class = tuple[tuple[int, ...], int]


@dataclass(kw_only=True, eq=False)
class Rules(ABC):
    """A row is [two words] question [answer]. Tokens: symbols, null, words, marks."""

    name: str
    noise: float
    shown: float
    length: int = field(init=False)
    vocab_size: int = field(init=False)
    fingerprint: str = field(init=False)
    symbols: range = field(init=False)
    layout: Layout = field(init=False)
    num_classes: int = field(init=False)
    example_len: int | None = field(init=False, default=None)
    vector_size: int | None = field(init=False, default=None)
    labels: range = field(init=False, default=range(0))
    rows: dict[str, int] = field(init=False, default_factory=dict)
    instructions: ClassVar[tuple[str, ...]]
    marks: ClassVar[tuple[str, ...]] = ("=",)

    def __post_init__(self) -> None:
        for argument in ("noise", "shown"):
            if not 0 <= getattr(self, argument) <= 1:
                raise ValueError(f"source.{argument}={getattr(self, argument)}: must lie between 0 and 1")
        question_len, answer_len = self.sizes()
        self.length = SLOTS + question_len + answer_len - 1
        null = len(self.symbols)
        first_mark = null + 1 + len(self.instructions)
        self.vocab_size = first_mark + len(self.marks)
        self.layout = Layout(
            seed_prompt=(null,) * SLOTS,
            answer_len=answer_len,
            words=range(null, first_mark),
            names=("null", *self.instructions),
            verify=self.verify,
            means=self.means,
        )
        self.classes = self.find_classes()
        self.num_classes = len(self.classes)
        self.fingerprint = self._fingerprint()

    @abstractmethod
    def sizes(self) -> tuple[int, int]:
        """Tokens of a question and of an answer. Raises ValueError for arguments that cannot be."""

    @abstractmethod
    def ask(self, rows: int, *, rng: np.random.Generator, lesson: bool) -> Ints:
        """Questions, [B, Q]."""

    @abstractmethod
    def begin(self, question_BQ: Ints) -> Ints:
        """What instructions work on, [B, S]."""

    @abstractmethod
    def follow(self, word: int, state_BS: Ints, question_BQ: Ints) -> Ints:
        """The state after one instruction."""

    @abstractmethod
    def end(self, state_BS: Ints) -> Ints:
        """The answer, [B, A]."""

    @abstractmethod
    def find_classes(self) -> list[Class]: ...

    @abstractmethod
    def hide(self, part: int, question_BQ: Ints, answer_BA: Ints) -> tuple[Ints, Ints]:
        """Question and answer with a class's hidden part in them."""

    @abstractmethod
    def part_name(self, part: int) -> str: ...

    def mark(self, name: str) -> int:
        """The token of a mark."""
        return len(self.symbols) + 1 + len(self.instructions) + self.marks.index(name)

    def obey(self, program_BP: Ints, question_BQ: Ints) -> Ints:
        """Answers of rows that each have instructions of their own, followed from left to right: [B, A]."""
        state_BS = self.begin(question_BQ)
        for word_B in program_BP.T:
            for word in np.unique(word_B[word_B != NONE]):
                at = word_B == word
                state_BS[at] = self.follow(int(word), state_BS[at], question_BQ[at])
        return self.end(state_BS)

    def choose(self, ops: int) -> list[int]:
        found = [index for index, (program, _) in enumerate(self.classes) if len(program) == ops]
        if not found:
            there = " or ".join(map(str, sorted({len(program) for program, _ in self.classes})))
            raise ValueError(f"task.ops={ops}: source={self.name} has tasks of {there} hidden instructions")
        return found

    def problems(self, index: int, *, rows: int, rng: np.random.Generator) -> Batch:
        program, part = self.classes[index]
        question_BQ = self.ask(rows, rng=rng, lesson=False)
        answer_BA = self.obey(as_rows(program, rows), question_BQ)
        return self._lay(as_rows((), rows), *self.hide(part, question_BQ, answer_BA))

    def lessons(self, *, rows: int, rng: np.random.Generator) -> Batch:
        """One or two instructions, evenly. They stand in the prompt of `shown` of the rows; `noise` of the tokens of
        answers are replaced by any symbol."""
        program_BP = rng.integers(0, len(self.instructions), size=(rows, SLOTS))
        alone_B, empty_B = rng.random(rows) < 0.5, rng.integers(0, SLOTS, size=rows)
        program_BP[alone_B, empty_B[alone_B]] = NONE
        question_BQ = self.ask(rows, rng=rng, lesson=True)
        answer_BA = self.obey(program_BP, question_BQ)
        slips_BA = rng.random(answer_BA.shape) < self.noise
        answer_BA = np.where(slips_BA, rng.integers(0, len(self.symbols), size=answer_BA.shape), answer_BA)
        told_B1 = rng.random((rows, 1)) < self.shown
        return self._lay(np.where(told_B1, program_BP, NONE), question_BQ, answer_BA)

    def skills(self, *, rows: int, rng: np.random.Generator) -> Batch:
        program_BP = np.full((rows, SLOTS), NONE)
        word_B, slot_B = divmod(spread(rows, over=SLOTS * len(self.instructions)), SLOTS)
        program_BP[np.arange(rows), slot_B] = word_B
        question_BQ = self.ask(rows, rng=rng, lesson=True)
        return self._lay(program_BP, question_BQ, self.obey(program_BP, question_BQ))

    def verify(self, batch: Batch, answer_BA: Tensor) -> Tensor:
        """1 where the whole answer is right."""
        return (answer_BA == self.layout.answers(batch)).all(1).float()

    def means(self, prompt: Prompt, question_BQ: Tensor) -> Tensor:
        null = self.layout.seed_prompt[0]
        program = tuple(token - null - 1 for token in prompt if token != null)
        if not program:
            return torch.full((len(question_BQ), self.layout.answer_len), IGNORE, device=question_BQ.device)
        question = question_BQ.cpu().numpy()
        return torch.from_numpy(self.obey(as_rows(program, len(question)), question)).to(question_BQ.device)

    def class_name(self, index: int) -> str:
        program, part = self.classes[index]
        return ", ".join([*(self.instructions[word] for word in program), self.part_name(part)])

    def families(self) -> Sequence[Sequence[int]]:
        """Rules share what a word says; none is a part of another."""
        return [[index] for index in range(self.num_classes)]

    def entropy(self, classes: Ints) -> float:
        """The answer is certain for one who knows the rule."""
        return 0.0

    def show(self, tokens: Ints) -> str:
        called = [*map(str, self.symbols), *self.layout.names, *self.marks]
        return " ".join(called[token] for token in tokens)

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        refuse(self.name)

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        refuse(self.name)

    def eval_examples(self, classes: Ints) -> int | None:
        refuse(self.name)

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        refuse(self.name)

    def take(self, units: Ints, *, length: int) -> Batch:
        refuse(self.name)

    def per_row(self, *, length: int) -> int:
        refuse(self.name)

    def _lay(self, program_BP: Ints, question_BQ: Ints, answer_BA: Ints) -> Batch:
        null = self.layout.seed_prompt[0]
        window = np.concatenate([null + 1 + program_BP, question_BQ, answer_BA], axis=1)
        targets = window[:, 1:].copy()
        targets[:, : -answer_BA.shape[1]] = IGNORE
        return whole_rows(window[:, :-1], targets)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.classes, self.layout.names)).encode())
        for batch in (self.lessons(rows=64, rng=rng_of(0)), self.problems(0, rows=64, rng=rng_of(1))):
            digest.update(batch.tokens_BT.numpy().tobytes() + batch.targets_BT.numpy().tobytes())
        return digest.hexdigest()


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def as_rows(program: Sequence[int], rows: int) -> Ints:
    """The same instructions in every row, [B, P]."""
    return np.tile([*program, *[NONE] * (SLOTS - len(program))], (rows, 1))
