"""How problems with a verifiable answer are laid out in a row, and what a prompt may say.

    [prompt P | question Q | answer A]      only the answer is scored
    null null   3 1 4 1 =    1 4 1 3

Shapes: B rows, P prompt, Q question, A answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ttt.stream.batch import IGNORE, Batch

# One prompt: P tokens.
Prompt = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where prompt, question and answer stand in rows of equal length, and who checks answers.

    `seed_prompt`  the prompt that every row of a task carries; it says nothing
    `words`        tokens that a prompt may hold, those of the seed prompt included
    `names`        the names of `words`, in the same order
    `verify`       the reward, 0 or 1, of answers [B, A] to the problems of a batch; it depends on
                   question and answer, never on the prompt
    `means`        the answers [B, A] that a prompt asks for, from questions [B, Q]; IGNORE where it
                   says nothing. Only the oracle proposer may use it, never a reward.
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

    def context_len(self, batch: Batch) -> int:
        """Return the tokens of prompt and question together, P + Q."""
        # A row lacks the last token of the answer, which is a target only: hence + 1.
        return batch.tokens_BT.shape[1] + 1 - self.answer_len

    def prompts(self, batch: Batch) -> Tensor:
        """Return the prompts that the rows carry, [B, P]."""
        return batch.tokens_BT[:, : self.prompt_len]

    def questions(self, batch: Batch) -> Tensor:
        """Return the questions, [B, Q]."""
        return batch.tokens_BT[:, self.prompt_len : self.context_len(batch)]

    def answers(self, batch: Batch) -> Tensor:
        """Return the right answers, [B, A]."""
        answer_BA = batch.targets_BT[:, -self.answer_len :]
        assert bool((answer_BA != IGNORE).all()), "every token of an answer is scored"
        return answer_BA

    def text(self, prompt: Sequence[int]) -> str:
        """Return a prompt as words, such as `null reverse`."""
        name_of = dict(zip(self.words, self.names, strict=True))
        return " ".join(name_of[token] for token in prompt)

    def parse(self, text: str) -> Prompt:
        """Invert `text`. Raises ValueError for an unknown word or a wrong number of words."""
        tokens = dict(zip(self.names, self.words, strict=True))
        words = text.split()
        unknown = [word for word in words if word not in tokens]
        if unknown:
            raise ValueError(f"prompt {text!r}: {unknown[0]!r} is none of {', '.join(self.names)}")
        if len(words) != self.prompt_len:
            raise ValueError(f"prompt {text!r}: must be {self.prompt_len} words")
        return tuple(tokens[word] for word in words)
