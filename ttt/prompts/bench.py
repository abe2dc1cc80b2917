"""Prompts on trial: what is played, what it costs, and what it leaves for others to use.

Shapes: R rollouts, P prompt, A answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ttt.prompts.rollouts import Play, Rollouts
from ttt.stream import Batch, Layout, Prompt


class Bench:
    """Plays prompts on rows of `batch`, never more often than `budget`; counts rollouts, and keeps them."""

    def __init__(self, play: Play, batch: Batch, layout: Layout, *, budget: int) -> None:
        self._play, self.batch, self.layout, self._budget = play, batch, layout, budget
        self._parts: list[Rollouts] = []
        self.used = 0

    @property
    def left(self) -> int:
        return self._budget - self.used

    @property
    def problems(self) -> int:
        return len(self.batch.tokens_BT)

    def ask(self, prompts: Sequence[Prompt], problems: Sequence[Sequence[int]]) -> list[Rollouts]:
        """One answer under each prompt to each of its problems (rows of the batch); all are sampled at once."""
        counts = [len(rows) for rows in problems]
        if not sum(counts):
            return []
        assert sum(counts) <= self.left, f"{sum(counts)} rollouts asked for, {self.left} left"
        device = self.batch.tokens_BT.device
        problem_R = torch.tensor([row for rows in problems for row in rows], device=device)
        asked = [prompt for prompt, n in zip(prompts, counts, strict=True) for _ in range(n)]
        played = self._play(problem_R, torch.tensor(asked, device=device))
        self.used += sum(counts)
        self._parts.append(played)
        ends = torch.tensor(counts).cumsum(0).tolist()
        return [played.pick(list(range(end - n, end))) for end, n in zip(ends, counts, strict=True)]

    def under(self, prompts: Iterable[Prompt]) -> Rollouts:
        """All that was played under these prompts."""
        if not self._parts:
            return self._nothing()
        made, wanted = Rollouts.cat(self._parts), set(prompts)
        return made.pick([i for i, prompt in enumerate(made.prompt_RP.tolist()) if tuple(prompt) in wanted])

    def _nothing(self) -> Rollouts:
        token = self.batch.tokens_BT.new_zeros(0)
        number = torch.zeros(0, device=token.device)
        prompt, answer = self.layout.prompt_len, self.layout.answer_len
        return Rollouts(token, token.view(0, prompt), token.view(0, answer), number.view(0, answer), number)
