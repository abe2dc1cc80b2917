"""A light round of GEPA (arXiv 2507.19457) on a pool of prompts that survives between rounds.

    score     the pool and the seed prompt, all on the same problems
    propose   draw parents from the frontier and play small batches; a proposer reads what failed
    accept    children that beat their parent on its small batch, and score them like the pool
    keep      the best mean, the frontier, then others by mean
    emit      a few kept prompts that together cover the frontier, for use by the slow channel

Prompts are scored again in every round, since the slow weights have moved in between. All rollouts
of a stage are sampled at once, so that children are not parents in the round that creates them.
Shapes: N prompts, V problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ttt.prompts.bench import Bench
from ttt.prompts.pareto import cover, parent_weights, select_pool
from ttt.prompts.proposers import Proposer, failures
from ttt.stream import Prompt


@dataclass(frozen=True)
class Search:
    """Settings of a search, explained in conf/adapter/prompt_pool.yaml; `equal`: accept ties."""

    emit: int
    pool: int
    proposals: int
    minibatch: int
    problems: int
    equal: bool

    def scoring_size(self, *, prompts: int, rows: int, budget: int) -> int:
        """Return on how many problems to score `prompts` prompts within `budget` rollouts.

        Enough of the budget stays to try one child and to score it; a budget too small for that is
        spent on the prompts alone.
        """
        # Two small batches, of parent and child, and one more prompt to score.
        spare = (budget - 2 * self.minibatch_size(rows)) // (prompts + 1)
        return min(self.problems, rows, spare if spare > 0 else budget // prompts)

    def minibatch_size(self, rows: int) -> int:
        """Return the number of problems on which a parent and its child are compared."""
        return min(self.minibatch, rows)


@dataclass(frozen=True)
class Pool:
    """Prompts, the most valuable first, with their rewards on the problems of the last round.

    `emitted`: the prompts in use, as indices, the best first.
    """

    prompts: list[Prompt]
    score_NV: Tensor
    emitted: list[int]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], score_NV: Tensor, search: Search) -> Pool:
        index = select_pool(score_NV, search.pool)
        # `emitted` counts within the selected pool.
        return cls([prompts[n] for n in index], score_NV[index], cover(score_NV[index], search.emit))


def evolve(prompts: Sequence[Prompt], propose: Proposer, bench: Bench, search: Search) -> Pool | None:
    """Run a round that begins with `prompts`, the best first.

    Return the new pool; None without a budget.
    """
    # The seed prompt competes in every round: a pool can drift to prompts that no longer help.
    # Each prompt costs one rollout at least.
    prompts = distinct([*prompts, bench.layout.seed_prompt])[: bench.left]
    if not prompts:
        return None
    problems = range(search.scoring_size(prompts=len(prompts), rows=bench.problems, budget=bench.left))
    score_NV = scores(prompts, problems, bench)
    accepted = children(prompts, score_NV, propose, bench, search)
    if accepted:
        # Children come first: of equals the first is kept, so a search moves on where all tie.
        score_NV = torch.cat([scores(accepted, problems, bench), score_NV])
    return Pool.of([*accepted, *prompts], score_NV, search)


def scores(prompts: Sequence[Prompt], problems: Sequence[int], bench: Bench) -> Tensor:
    """Play every prompt on every problem. Return the rewards [N, V], on the CPU."""
    return torch.stack([played.reward_R.cpu() for played in bench.play(prompts, [problems] * len(prompts))])


def children(
    prompts: Sequence[Prompt], score_NV: Tensor, propose: Proposer, bench: Bench, search: Search
) -> list[Prompt]:
    """Return new prompts that did better than their parents on the same few problems."""
    size = search.minibatch_size(bench.problems)
    # A child costs its parent's small batch, its own, and its scoring if it is accepted.
    count = min(search.proposals, bench.left // (2 * size + score_NV.shape[1]))
    if not count:
        return []
    # With replacement: a strong parent may have several children.
    drawn = torch.multinomial(parent_weights(score_NV), count, replacement=True).tolist()
    parents = [prompts[n] for n in drawn]
    problems = [torch.randperm(bench.problems)[:size].tolist() for _ in parents]
    # child -> (what its parent earned, on which problems)
    tried: dict[Prompt, tuple[float, list[int]]] = {}
    for parent, rows, played in zip(parents, problems, bench.play(parents, problems), strict=True):
        records = failures(bench.batch, bench.layout, played)
        # A parent without a failure gives a proposer nothing to read.
        child = bench.ask(propose, parent, records) if records else None
        if child is not None and child not in prompts and child not in tried:
            tried[child] = (float(played.reward_R.sum()), rows)
    answers = bench.play(list(tried), [rows for _, rows in tried.values()])
    return [
        child
        for (child, (old, _)), played in zip(tried.items(), answers, strict=True)
        if float(played.reward_R.sum()) > old or (search.equal and float(played.reward_R.sum()) == old)
    ]


def distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return each prompt once, in order of its first place."""
    return list(dict.fromkeys(prompts))
