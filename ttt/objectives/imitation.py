"""Right answers that slow weights are shown and imitate: what a proposer gets to see.

    each round   one answer to each of a few problems; of those that fail the right answer is shown
    slow step    loss = - mean over the shown answers' tokens of log p(y_t | prompt, x, y_<t)

The answers of a round are imitated in every slow step until the next round. Rounds come when those
of a search would, with as many problems as the search shows to its proposer.
Shapes: R rollouts, B rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ttt.learner import cross_entropy
from ttt.objectives.costs import Costs
from ttt.objectives.policy_loss import zero_loss
from ttt.prompts.rollouts import Rollouts
from ttt.stream import Batch, Layout

LearnFrom = Literal["reward", "prompt", "answers", "reward_and_answers"]
# Those that imitate shown answers.
IMITATES: tuple[LearnFrom, ...] = ("answers", "reward_and_answers")
# The parts of a batch that a checkpoint holds; problems limit no outputs.
PARTS = ("tokens", "targets", "segment")


class Imitation:
    """The rows whose answers were shown last. `quiz`: how many are answered in each round."""

    def __init__(self, quiz: int) -> None:
        self._quiz = quiz
        self._rows: Batch | None = None

    def ask(self, batch: Batch, play: Callable[[Tensor, Tensor], Rollouts], layout: Layout, costs: Costs) -> None:
        """Answer a few problems of `batch` once; keep the rows of those that fail.

        `play` answers problems (rows of the batch) under the prompts beside them. Draws from
        torch's global generator.
        """
        rows = len(batch.tokens_BT)
        # These numbers come from the global generator, whose state every checkpoint holds.
        problem_R = torch.randperm(rows)[: self._quiz].to(batch.tokens_BT.device)
        played = play(problem_R, layout.prompts(batch)[problem_R])
        # Batches are indexed by numpy arrays, which lie on the CPU.
        self._rows = batch.pick(problem_R[played.reward_R < 1].cpu().numpy())
        costs.add("fast_rollouts", len(problem_R))
        costs.add("shown", len(self._rows.tokens_BT))

    def loss(self, model: nn.Module, costs: Costs) -> Tensor:
        """Return the cross-entropy of the shown answers, in nats per token; zero without any."""
        if self._rows is None or not len(self._rows.tokens_BT):
            return zero_loss(model)
        costs.read(self._rows.tokens_BT.numel())
        logits_BTV = model(self._rows.tokens_BT, segment_BT=self._rows.segment_BT)
        return cross_entropy(logits_BTV, self._rows, reduction="mean")

    def state(self) -> dict[str, Tensor]:
        """Return the rows as named tensors, for a checkpoint."""
        if self._rows is None:
            return {}
        return {f"shown.{name}": getattr(self._rows, f"{name}_BT") for name in PARTS}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        if f"shown.{PARTS[0]}" in state:
            self._rows = Batch(*(state[f"shown.{name}"] for name in PARTS))
