"""A light round of GEPA (arXiv 2507.19457) on a pool of prompts that is carried from round to round.

    score     every prompt of the pool, and the seed prompt, on the same problems: old scores are of old slow weights
    propose   parents drawn from the frontier, played on small batches; a proposer reads what failed
    accept    children that get more than their parent on its small batch; these are scored like the pool
    keep      the frontier, then the best means; of these a few are put to use that cover the frontier

All rollouts of a stage are sampled at once, so that children of one round have no children in it.
Shapes: N prompts, V problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ttt.prompts.bench import Bench
from ttt.prompts.pareto import cover, kept, weights
from ttt.prompts.proposers import Proposer, failures
from ttt.stream import Prompt


@dataclass(frozen=True)
class Search:
    """Arguments of conf/adapter/prompt_pool.yaml; `equal`: is a child taken that only does as well?"""

    emit: int
    pool: int
    proposals: int
    minibatch: int
    problems: int
    equal: bool

    def scored(self, *, prompts: int, rows: int, budget: int) -> int:
        """Problems on which `prompts` prompts are scored: a budget that does not reach far is spread over all of them,
        with enough left to try and score one child."""
        spare = (budget - 2 * self.tried(rows)) // (prompts + 1)
        return min(self.problems, rows, spare if spare > 0 else budget // prompts)

    def tried(self, rows: int) -> int:
        """Problems of a small batch."""
        return min(self.minibatch, rows)


@dataclass(frozen=True)
class Pool:
    """Prompts, those worth most first, and the rewards of each on the problems of the last round.

    `emitted`: those put to use, as indices, the best first.
    """

    prompts: list[Prompt]
    score_NV: Tensor
    emitted: list[int]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], score_NV: Tensor, search: Search) -> Pool:
        index = kept(score_NV, search.pool)
        return cls([prompts[n] for n in index], score_NV[index], cover(score_NV[index], search.emit))


def evolve(prompts: Sequence[Prompt], propose: Proposer, bench: Bench, search: Search) -> Pool | None:
    """The pool after a round that began with `prompts`, the best first; None without a budget."""
    prompts = distinct([*prompts, bench.layout.seed_prompt])[: bench.left]
    if not prompts:
        return None
    problems = range(search.scored(prompts=len(prompts), rows=bench.problems, budget=bench.left))
    score_NV = scores(prompts, problems, bench)
    accepted = children(prompts, score_NV, propose, bench, search)
    if accepted:
        # Of equals what stands first is kept: the newest, so that a search goes on where all earn the same.
        score_NV = torch.cat([scores(accepted, problems, bench), score_NV])
    return Pool.of([*accepted, *prompts], score_NV, search)


def scores(prompts: Sequence[Prompt], problems: Sequence[int], bench: Bench) -> Tensor:
    """[N, V], on the CPU."""
    return torch.stack([played.reward_R.cpu() for played in bench.ask(prompts, [problems] * len(prompts))])


def children(
    prompts: Sequence[Prompt], score_NV: Tensor, propose: Proposer, bench: Bench, search: Search
) -> list[Prompt]:
    """New prompts that did better than their parents on the same few problems."""
    size = search.tried(bench.problems)
    count = min(search.proposals, bench.left // (2 * size + score_NV.shape[1]))
    if not count:
        return []
    drawn = torch.multinomial(weights(score_NV), count, replacement=True).tolist()
    parents = [prompts[n] for n in drawn]
    problems = [torch.randperm(bench.problems)[:size].tolist() for _ in parents]
    tried: dict[Prompt, tuple[float, list[int]]] = {}
    for parent, rows, played in zip(parents, problems, bench.ask(parents, problems), strict=True):
        records = failures(bench.batch, bench.layout, played)
        child = propose(parent, records) if records else None
        if child is not None and child not in prompts and child not in tried:
            tried[child] = (float(played.reward_R.sum()), rows)
    answers = bench.ask(list(tried), [rows for _, rows in tried.values()])
    return [
        child
        for (child, (old, _)), played in zip(tried.items(), answers, strict=True)
        if float(played.reward_R.sum()) > old or (search.equal and float(played.reward_R.sum()) == old)
    ]


def distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Each once, in order."""
    return list(dict.fromkeys(prompts))
