"""How problems with a verifiable answer are laid out in a row, and what a prompt may say.

    [prompt P | question Q | answer A]      only the answer is scored
    null null   3 1 4 1 =    1 4 1 3

Shapes: B rows, P prompt, Q question, A answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ttt.stream.stream import IGNORE, Batch

# One prompt: P tokens.
Prompt = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Rows of equal length; each row that a task gives carries the seed prompt, which says nothing.

    `words`: tokens that a prompt may hold, the seed prompt's among them; `names`: what they are called, in that order.
    `verify`: the reward, 0 or 1, of answers [B, A] to the problems of a batch. It sees question and answer, no prompt.
    `means`: what a prompt is known to ask for, [B, A] (IGNORE where it says nothing), from questions [B, Q]: the oracle
    of one proposer, never part of a reward.
    """

    seed_prompt: Prompt
    answer_len: int
    words: Sequence[int]
    names: Sequence[str]
    verify: Callable[[Batch, Tensor], Tensor]
    means: Callable[[Prompt, Tensor], Tensor]

    @property
    def prompt_len(self) -> int:
        return len(self.seed_prompt)

    def questions(self, batch: Batch) -> Tensor:
        """[B, Q]"""
        return batch.tokens_BT[:, self.prompt_len : batch.tokens_BT.shape[1] + 1 - self.answer_len]

    def answers(self, batch: Batch) -> Tensor:
        """The right ones, [B, A]."""
        answer_BA = batch.targets_BT[:, -self.answer_len :]
        assert bool((answer_BA != IGNORE).all()), "every token of an answer is scored"
        return answer_BA

    def text(self, prompt: Sequence[int]) -> str:
        """A prompt as words: `null reverse`."""
        called = dict(zip(self.words, self.names, strict=True))
        return " ".join(called[token] for token in prompt)

    def parse(self, text: str) -> Prompt:
        """The inverse of `text`. Raises ValueError for another number of words, or words that are none."""
        tokens = dict(zip(self.names, self.words, strict=True))
        given = text.split()
        unknown = [word for word in given if word not in tokens]
        if unknown or len(given) != self.prompt_len:
            what = (
                f"{unknown[0]!r} is none of {', '.join(self.names)}" if unknown else f"must be {self.prompt_len} words"
            )
            raise ValueError(f"prompt {text!r}: {what}")
        return tuple(tokens[word] for word in given)
