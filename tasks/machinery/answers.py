"""Prompts with answers of any length, packed into rows: only answers are scored.

    tokens    W h a t ?  \\n  4  \\n  W h y ?  \\n  S  o \\n  .  .  .   .: padding
    targets   . . . . .   4  \\n  .  . . . .   S   o \\n  .  .  .  .   .: IGNORE

The examples of a row are one document: the earlier ones can be read in context. With labels, an
answer is one token, and labels are the classes.

Shapes: N examples, B rows, T tokens of a row, K examples in a row.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import groupby
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge

from ttt.stream import IGNORE, Batch, Ints
from ttt.tasks.machinery.pair_coder import Chat, Coded, PairCoder, text_tokenizer
from ttt.tasks.machinery.parts import ExampleParts, last_share
from ttt.tasks.machinery.tokenizers import visible

# A column with more different values names no classes.
MOST_CLASSES = 1000


class Pair(NamedTuple):
    """A prompt, its answer and its class; None or empty where a row has none."""

    prompt: str | None
    answer: str | None
    class_name: str | None


@dataclass(kw_only=True, eq=False)
class Answers(ExampleParts):
    """Arguments are explained in conf/answers.yaml; `rows` counts what is cut and left out."""

    tokenizer: str
    separator: str
    end: str
    max_tokens: Annotated[int, Ge(2)]
    chat: bool | Literal["auto"]
    system: str | None
    model_tokenizer: InitVar[Callable[[], str] | None] = None
    model_chat: InitVar[Callable[[], Chat | None] | None] = None
    # Have answers several tokens, so that an exact match differs from the accuracy?
    answers: bool = field(init=False)
    vector_size: int | None = field(init=False, default=None)

    @abstractmethod
    def pairs(self) -> Iterable[Pair]:
        """Return all prompts with their answers; the answer to a text is its label."""

    @abstractmethod
    def has_labels(self) -> bool:
        """Are answers the names of their classes?"""

    @abstractmethod
    def typed(self) -> str:
        """Return what the user typed to get these classes; refusals begin with it."""

    def __post_init__(
        self, model_tokenizer: Callable[[], str] | None, model_chat: Callable[[], Chat | None] | None
    ) -> None:
        pairs = list(self.pairs())
        whole = [(p.prompt, p.answer, p.class_name) for p in pairs if p.prompt and p.answer and p.class_name]
        names = self._class_names([name for _, _, name in whole])
        class_of = {name: number for number, name in enumerate(names)}
        classes_N = np.array([class_of[name] for _, _, name in whole])
        # Parts are cut before the tokenizer is trained, which must not see eval texts.
        is_eval_N = last_share(classes_N, self.eval_share)
        texts = (f"{whole[i][0]}{self.separator}{whole[i][1]}{self.end}" for i in np.flatnonzero(~is_eval_N))
        tokenizer, content = text_tokenizer(self.tokenizer, texts=texts, model_tokenizer=model_tokenizer)
        coder = PairCoder(
            tokenizer=tokenizer,
            separator=self.separator,
            end=self.end,
            chat=self._chat(model_chat),
            system=self.system,
        )
        self._number(names, coder)
        coded = [coder.code(prompt, answer) for prompt, answer, _ in whole]
        if self.has_labels():
            coded = [Coded(c.prompt, np.array([self.labels[k]])) for c, k in zip(coded, classes_N, strict=True)]
        fitted = [self._fitted(c, is_chat=coder.chat is not None) for c in coded]
        fits_N = np.array([c is not None for c in fitted])
        self._coded = [c for c in fitted if c is not None]
        self._check_left(coded)
        self._width = max(len(c.prompt) + len(c.answer) for c in self._coded)
        self.example_len, self._tokenizer = self._width - 1, tokenizer
        self._split(self._prompts(), classes_N[fits_N], names, is_eval_N[fits_N])
        counts = {
            "left out, without text or answer": len(pairs) - len(whole),
            f"left out, longer than {self.max_tokens} tokens": len(whole) - len(self._coded),
            f"prompts cut to {self.max_tokens} tokens": sum(
                c is not None and len(c.prompt) < len(before.prompt) for c, before in zip(fitted, coded, strict=True)
            ),
        }
        self.rows |= {what: count for what, count in counts.items() if count}
        self.fingerprint = self._hash(content)

    def _class_names(self, names: Sequence[str]) -> list[str]:
        """Return the classes in the order of their first rows."""
        if not names:
            raise ValueError(f"{self.typed()}: no row has all that it needs")
        different = list(dict.fromkeys(names))
        if len(different) > MOST_CLASSES:
            raise ValueError(
                f"{self.typed()}: {len(different)} different classes, {MOST_CLASSES} is the most; name another "
                "column, or use source.prompt and source.answer"
            )
        return different

    def _chat(self, model_chat: Callable[[], Chat | None] | None) -> Chat | None:
        is_model = self.tokenizer == "model" and model_chat is not None
        chat = model_chat() if is_model and model_chat is not None and self.chat is not False else None
        if self.chat is True and chat is None:
            why = "the model has no chat template" if is_model else "only a pretrained model has a chat template"
            raise ValueError(f"source.chat=true: {why}; use source.chat=auto or source.separator and source.end")
        return chat

    def _number(self, names: Sequence[str], coder: PairCoder) -> None:
        """Decide which tokens are labels, and how many tokens there are."""
        size = coder.tokenizer.vocab_size
        self.symbols, self.labels, self.vocab_size = range(size), range(0), size
        self.answers, self.token_bytes = not self.has_labels(), None
        if self.answers:
            self.token_bytes = coder.tokenizer.token_bytes
        elif self.tokenizer == "model":
            # A pretrained model has no tokens to spare, and knows what words mean.
            self.labels = [int(coder.code("", name).answer[0]) for name in names]
            self._check_labels(names)
        else:
            self.labels = range(size, size + len(names))
            self.vocab_size = self.labels.stop
        self._label_names = dict(zip(self.labels, names, strict=True)) if self.vocab_size > size else {}

    def _check_labels(self, names: Sequence[str]) -> None:
        first: dict[int, str] = {}
        for label, name in zip(self.labels, names, strict=True):
            if label in first:
                raise ValueError(
                    f"{self.typed()}: {first[label]!r} and {name!r} begin with the same token of the model, and a "
                    "label is one token; rename one, or use source.prompt and source.answer"
                )
            first[label] = name

    def _fitted(self, coded: Coded, *, is_chat: bool) -> Coded | None:
        """Return an example of at most `max_tokens` tokens, or None where it cannot be cut."""
        over = len(coded.prompt) + len(coded.answer) - self.max_tokens
        if over <= 0:
            return coded
        # The last token of a prompt stays: it predicts the answer's first.
        return None if is_chat or over >= len(coded.prompt) else coded._replace(prompt=coded.prompt[over:])

    def _check_left(self, coded: Sequence[Coded]) -> None:
        if not self._coded:
            shortest = min(len(c.prompt) + len(c.answer) for c in coded)
            raise ValueError(f"source.max_tokens={self.max_tokens}: the shortest example has {shortest} tokens")

    def _prompts(self) -> Ints:
        """Return the prompts as rows of equal length, with their lengths in front."""
        lengths = [len(c.prompt) for c in self._coded]
        # Rows are compared whole: the length tells a prompt from the same one with zeros behind it.
        rows = np.zeros((len(lengths), 1 + max(lengths)), dtype=np.int64)
        for row, coded in zip(rows, self._coded, strict=True):
            row[0], row[1 : 1 + len(coded.prompt)] = len(coded.prompt), coded.prompt
        return rows

    def _hash(self, tokenizer: str) -> str:
        digest = hashlib.sha256(f"{self._names}\0{tokenizer}".encode())
        for part in (*self._train, *self._eval):
            for number in part:
                prompt, answer = self._coded[number]
                digest.update(prompt.tobytes() + b"|" + answer.tobytes() + b"\n")
            # A separator, so that an example that moves from one part to the next shows.
            digest.update(b"|")
        return digest.hexdigest()

    def per_row(self, *, length: int) -> int:
        """Return how many examples fit into a sequence of `length` tokens, whichever they are."""
        # The last token is a target only.
        fit = (length + 1) // self._width
        if fit < 1:
            raise ValueError(
                f"task.seq_len={length}: shorter than the longest example of source={self.name} ({self._width} "
                f"tokens); type source.max_tokens={length + 1}"
            )
        return fit

    def _pack(self, example_BK: Ints) -> Batch:
        length = example_BK.shape[1] * self._width
        window, targets = np.zeros((len(example_BK), length), np.int64), np.full((len(example_BK), length), IGNORE)
        segment = np.full_like(window, -1)
        for row, numbers in enumerate(example_BK):
            place = 0
            for prompt, answer in (self._coded[number] for number in numbers):
                begin, stop = place + len(prompt), place + len(prompt) + len(answer)
                # Targets are shifted by one below: here they stand at their own place.
                window[row, place:begin], window[row, begin:stop] = prompt, answer
                targets[row, begin:stop] = answer
                place = stop
            segment[row, :place] = 0
        shifted = (window[:, :-1], targets[:, 1:], segment[:, :-1])
        return Batch(*(torch.from_numpy(np.ascontiguousarray(x)) for x in shifted))

    def show(self, tokens: Ints) -> str:
        pieces = groupby(tokens.tolist(), key=self._label_names.get)
        return "".join(f" -> {name}\n" if name else self._shown(list(piece)) for name, piece in pieces)

    def _shown(self, tokens: list[int]) -> str:
        return visible(self._tokenizer.decode(np.array(tokens)))
