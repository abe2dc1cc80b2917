"""A test bench for prompts: it plays them, shows a proposer what failed, and counts both.

Shapes: R rollouts, P prompt, A answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ttt.prompts.proposers import Proposer, Record
from ttt.prompts.rollouts import Play, Rollouts
from ttt.stream import Batch, Layout, Prompt


class Bench:
    """Plays prompts on rows of `batch` with at most `budget` rollouts, and keeps every rollout.

    `used`: rollouts so far; `proposals`: calls of a proposer; `shown`: records that it was shown.
    """

    def __init__(self, policy: Play, batch: Batch, layout: Layout, *, budget: int) -> None:
        self._policy, self.batch, self.layout, self._budget = policy, batch, layout, budget
        self._parts: list[Rollouts] = []
        self.used = self.proposals = self.shown = 0

    @property
    def left(self) -> int:
        return self._budget - self.used

    @property
    def problems(self) -> int:
        return len(self.batch.tokens_BT)

    def play(self, prompts: Sequence[Prompt], problems: Sequence[Sequence[int]]) -> list[Rollouts]:
        """Sample one answer under each prompt to each of its problems (rows of the batch)."""
        counts = [len(rows) for rows in problems]
        if not sum(counts):
            return []
        assert sum(counts) <= self.left, f"{sum(counts)} rollouts needed, {self.left} left"
        device = self.batch.tokens_BT.device
        problem_R = torch.tensor([row for rows in problems for row in rows], device=device)
        prompt_of_rollout = [prompt for prompt, n in zip(prompts, counts, strict=True) for _ in range(n)]
        # All prompts in one batch: sampling token by token costs about the same for any row count.
        played = self._policy(problem_R, torch.tensor(prompt_of_rollout, device=device))
        self.used += sum(counts)
        self._parts.append(played)
        # Rollouts lie prompt after prompt: each ends where the counts so far end.
        ends = torch.tensor(counts).cumsum(0).tolist()
        return [played.pick(list(range(end - n, end))) for end, n in zip(ends, counts, strict=True)]

    def ask(self, propose: Proposer, prompt: Prompt, records: Sequence[Record]) -> Prompt | None:
        """Ask for another prompt in place of one under which these rollouts failed."""
        self.proposals += 1
        self.shown += len(records)
        return propose(prompt, records)

    def under(self, prompts: Iterable[Prompt]) -> Rollouts:
        """Return all rollouts so far that were played under one of `prompts`."""
        if not self._parts:
            return self._empty()
        # By value: a prompt may have been played in several stages.
        rollouts, wanted = Rollouts.cat(self._parts), set(prompts)
        return rollouts.pick([i for i, prompt in enumerate(rollouts.prompt_RP.tolist()) if tuple(prompt) in wanted])

    def _empty(self) -> Rollouts:
        # Full shapes with zero rows let callers concatenate without a special case.
        token = self.batch.tokens_BT.new_zeros(0)
        number = torch.zeros(0, device=token.device)
        prompt, answer = self.layout.prompt_len, self.layout.answer_len
        return Rollouts(token, token.view(0, prompt), token.view(0, answer), number.view(0, answer), number)
