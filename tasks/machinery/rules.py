"""Problems with a hidden rule: instructions that a prompt can name, then a part that no prompt can.

A lesson is text as the base itself would write it: where noise replaced a token of the answer, the
next token is predicted from the noisy one. A model that samples reads its own slips, so it must
have seen slips; they also let it find what no prompt says. Under the seed prompt half of the work
is to guess the instructions.

Shapes: B rows, P prompt, Q question, A answer, S state while instructions are followed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from ttt.stream import IGNORE, Batch, Ints, Layout, Prompt, spread, whole_rows
from ttt.tasks.machinery.problems import refuse

# How many words a prompt holds; the number of an empty place. NONE is -1, so that null + 1 + word
# is the token of a word, and null itself for an empty place.
SLOTS, NONE = 2, -1
# The instructions of a class, and the number of its hidden part.
Class = tuple[tuple[int, ...], int]


@dataclass(kw_only=True, eq=False)
class Rules(ABC):
    """A source of problems, whose rows are [two words] question [answer].

    Tokens are numbered in this order: symbols, null, words, marks.
    """

    name: str
    noise: Annotated[float, Interval(ge=0, le=1)]
    shown: Annotated[float, Interval(ge=0, le=1)]
    length: int = field(init=False)
    vocab_size: int = field(init=False)
    fingerprint: str = field(init=False)
    symbols: range = field(init=False)
    layout: Layout = field(init=False)
    num_classes: int = field(init=False)
    example_len: int | None = field(init=False, default=None)
    vector_size: int | None = field(init=False, default=None)
    labels: range = field(init=False, default=range(0))
    token_bytes: Ints | None = field(init=False, default=None)
    rows: dict[str, int] = field(init=False, default_factory=dict)
    instructions: ClassVar[tuple[str, ...]]
    marks: ClassVar[tuple[str, ...]] = ("=",)

    def __post_init__(self) -> None:
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
        """Return the lengths of question and answer. Raises ValueError for impossible arguments."""

    @abstractmethod
    def ask(self, rows: int, *, rng: np.random.Generator, lesson: bool) -> Ints:
        """Draw questions [B, Q]; those of a `lesson` may differ from those of tasks."""

    @abstractmethod
    def begin(self, question_BQ: Ints) -> Ints:
        """Return the state that the first instruction changes, [B, S]."""

    @abstractmethod
    def follow(self, word: int, state_BS: Ints, question_BQ: Ints) -> Ints:
        """Return the state after one instruction, [B, S]."""

    @abstractmethod
    def end(self, state_BS: Ints) -> Ints:
        """Return the answer in the last state, [B, A]."""

    @abstractmethod
    def find_classes(self) -> list[Class]: ...

    @abstractmethod
    def hide(self, part: int, question_BQ: Ints, answer_BA: Ints) -> tuple[Ints, Ints]:
        """Return question and answer after the hidden part of a class has changed them."""

    @abstractmethod
    def part_name(self, part: int) -> str: ...

    def mark(self, name: str) -> int:
        """Return the token of a mark."""
        return len(self.symbols) + 1 + len(self.instructions) + self.marks.index(name)

    def obey(self, program_BP: Ints, question_BQ: Ints) -> Ints:
        """Return the answers [B, A]; each row follows its own instructions from left to right."""
        state_BS = self.begin(question_BQ)
        for word_B in program_BP.T:
            # All rows with the same instruction at once: there are few instructions and many rows.
            for word in np.unique(word_B[word_B != NONE]):
                at = word_B == word
                state_BS[at] = self.follow(int(word), state_BS[at], question_BQ[at])
        return self.end(state_BS)

    def choose(self, ops: int) -> list[int]:
        classes = [index for index, (program, _) in enumerate(self.classes) if len(program) == ops]
        if not classes:
            counts = " or ".join(map(str, sorted({len(program) for program, _ in self.classes})))
            raise ValueError(f"task.ops={ops}: source={self.name} has tasks of {counts} hidden instructions")
        return classes

    def problems(self, index: int, *, rows: int, rng: np.random.Generator) -> Batch:
        program, part = self.classes[index]
        question_BQ = self.ask(rows, rng=rng, lesson=False)
        answer_BA = self.obey(repeat_program(program, rows), question_BQ)
        return self._lay(repeat_program((), rows), *self.hide(part, question_BQ, answer_BA))

    def describing(self, index: int) -> Prompt:
        (program_P,) = repeat_program(self.classes[index][0], 1)
        return tuple((self.layout.seed_prompt[0] + 1 + program_P).tolist())

    def lessons(self, *, rows: int, rng: np.random.Generator) -> Batch:
        """Draw rows with one or two instructions, evenly.

        They stand in the prompt of a share `shown` of the rows; a share `noise` of the tokens of
        answers is replaced by any symbol.
        """
        program_BP = rng.integers(0, len(self.instructions), size=(rows, SLOTS))
        # In half of the rows one place is empty, either of the two: a word means the same in both.
        alone_B, empty_B = rng.random(rows) < 0.5, rng.integers(0, SLOTS, size=rows)
        program_BP[alone_B, empty_B[alone_B]] = NONE
        question_BQ = self.ask(rows, rng=rng, lesson=True)
        answer_BA = self.obey(program_BP, question_BQ)
        slips_BA = rng.random(answer_BA.shape) < self.noise
        # Drawn for all tokens, so that the numbers drawn next do not depend on `noise`.
        answer_BA = np.where(slips_BA, rng.integers(0, len(self.symbols), size=answer_BA.shape), answer_BA)
        is_shown_B1 = rng.random((rows, 1)) < self.shown
        return self._lay(np.where(is_shown_B1, program_BP, NONE), question_BQ, answer_BA)

    def skills(self, *, rows: int, rng: np.random.Generator) -> Batch:
        program_BP = np.full((rows, SLOTS), NONE)
        # Every instruction stands in every place, as often as any other.
        word_B, slot_B = divmod(spread(rows, over=SLOTS * len(self.instructions)), SLOTS)
        program_BP[np.arange(rows), slot_B] = word_B
        question_BQ = self.ask(rows, rng=rng, lesson=True)
        return self._lay(program_BP, question_BQ, self.obey(program_BP, question_BQ))

    def verify(self, batch: Batch, answer_BA: Tensor) -> Tensor:
        """Return the reward [B]: 1 where the whole answer is right, else 0."""
        # Nothing is given for half an answer: the reward is that of a verifier.
        return (answer_BA == self.layout.answers(batch)).all(1).float()

    def means(self, prompt: Prompt, question_BQ: Tensor) -> Tensor:
        """Return the answers [B, A] that a prompt asks for; IGNORE if it is empty."""
        null = self.layout.seed_prompt[0]
        program = tuple(token - null - 1 for token in prompt if token != null)
        if not program:
            return torch.full((len(question_BQ), self.layout.answer_len), IGNORE, device=question_BQ.device)
        # Rules are computed in numpy, whatever device the model is on.
        question = question_BQ.cpu().numpy()
        return torch.from_numpy(self.obey(repeat_program(program, len(question)), question)).to(question_BQ.device)

    def class_name(self, index: int) -> str:
        program, part = self.classes[index]
        return ", ".join([*(self.instructions[word] for word in program), self.part_name(part)])

    def families(self) -> Sequence[Sequence[int]]:
        """Return a family for each class: rules share the meaning of words, not content."""
        return [[index] for index in range(self.num_classes)]

    def entropy(self, classes: Ints) -> float:
        """Return 0: the answer is certain for a learner who knows the rule."""
        return 0.0

    def show(self, tokens: Ints) -> str:
        names = [*map(str, self.symbols), *self.layout.names, *self.marks]
        return " ".join(names[token] for token in tokens)

    # What other streams need from a source: all refuse, since a problem has no sequences to cut.

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
        # Only the answer is scored; the window's last token is a target only.
        targets = window[:, 1:].copy()
        targets[:, : -answer_BA.shape[1]] = IGNORE
        return whole_rows(window[:, :-1], targets)

    def _fingerprint(self) -> str:
        # A sample of rows, so that a change of the rules in code changes the fingerprint, too.
        digest = hashlib.sha256(repr((self.classes, self.layout.names)).encode())
        for batch in (self.lessons(rows=64, rng=rng_of(0)), self.problems(0, rows=64, rng=rng_of(1))):
            digest.update(batch.tokens_BT.numpy().tobytes() + batch.targets_BT.numpy().tobytes())
        return digest.hexdigest()


def rng_of(seed: int) -> np.random.Generator:
    """Return a generator for what is the same in every run."""
    return np.random.default_rng(seed)


def repeat_program(program: Sequence[int], rows: int) -> Ints:
    """Return the same instructions in every row, [B, P]."""
    return np.tile([*program, *[NONE] * (SLOTS - len(program))], (rows, 1))
