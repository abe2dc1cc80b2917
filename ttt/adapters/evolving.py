"""Adapters whose fast weights are prompts that improve by the reward they earn.

Shapes: B rows, T time, D model width; K prompts in use, P tokens of a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ttt.adapters.base import FastState
from ttt.prompts.rollouts import Play, Rollouts
from ttt.stream import Batch


@dataclass(frozen=True)
class Round:
    """The outcome of one round of the fast channel: the new state and how many rollouts it used.

    `rollouts`: those sampled under prompts that are in use now, which the slow channel may learn
    from; None for an adapter that is not `reusable`. `proposals`: calls of a proposer; `shown`:
    right answers that it was shown, if it reads them.
    """

    state: FastState
    used: int
    rollouts: Rollouts | None
    proposals: int = 0
    shown: int = 0


@runtime_checkable
class Evolving(Protocol):
    """The fast channel under a reward: an adapter whose prompts improve by the reward they earn.

    A prompt is P token ids, or P vectors [P, D] that are added to the embeddings of the seed
    prompt. The best prompt replaces the seed prompt; rows that carry another prompt keep it.
    """

    # Does a round return rollouts of prompts that are still in use after it?
    reusable: bool

    def emitted(self, state: FastState) -> Tensor:
        """The prompts in use, [K, P] or [K, P, D], the best one first."""
        ...

    def evolve(self, state: FastState, play: Play, batch: Batch, *, budget: int) -> Round:
        """Run one round with at most `budget` rollouts on the problems of `batch`."""
        ...

    def min_rollouts(self, *, rows: int, group: int) -> int:
        """The number of rollouts below which no round on `rows` problems can improve a prompt."""
        ...

    def with_prompt(self, tokens_BT: Tensor, state: FastState) -> Tensor:
        """Rows with the best prompt in place of the seed prompt, if prompts are token ids."""
        ...

    def prompt_vectors(self, tokens_BT: Tensor, state: FastState) -> Tensor | None:
        """Vectors [B, P, D] to add to the embeddings at the head of each row; None for none."""
        ...

    def holding(self, prompt: Tensor) -> FastState:
        """A state in which `prompt` is the only prompt in use."""
        ...
