"""A round of search by the gepa package itself (search=gepa): gepa.optimize from the best prompt there is.

It starts from one prompt and scores it anew, so nothing of it is stale; the rest of the pool is found again or lost.
Shapes: N prompts, V problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ttt.prompts.bench import Bench
from ttt.prompts.evolve import Pool, Search
from ttt.prompts.proposers import COMPONENT, Proposer, Record, Texts, failures
from ttt.prompts.rollouts import Rollouts
from ttt.stream import Layout, Prompt

if TYPE_CHECKING:
    from gepa.core.adapter import EvaluationBatch


class Playground:
    """What gepa asks of a system: to play a candidate, to tell what went wrong, and to propose.

    Without the attribute `propose_new_texts` gepa proposes nothing, and says so in its log only. What fails in a
    proposal goes there too: `error` keeps it.
    """

    def __init__(self, propose: Proposer, bench: Bench) -> None:
        self._propose, self._bench = propose, bench
        self.error: Exception | None = None

    @property
    def _layout(self) -> Layout:
        return self._bench.layout

    def evaluate(
        self, batch: list[int], candidate: Texts, capture_traces: bool = False
    ) -> EvaluationBatch[Rollouts, list[int]]:
        from gepa.core.adapter import EvaluationBatch

        (played,) = self._bench.ask([self._layout.parse(candidate[COMPONENT])], [batch])
        each = [played.pick([i]) for i in range(len(batch))]
        answers = played.answer_RA.tolist()
        return EvaluationBatch(answers, played.reward_R.tolist(), each if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: Texts, eval_batch: EvaluationBatch[Rollouts, list[int]], components_to_update: list[str]
    ) -> Mapping[str, Sequence[Record]]:
        assert eval_batch.trajectories is not None, "gepa asks for traces where it reflects"
        played = Rollouts.cat(eval_batch.trajectories)
        with self._noted():
            return {COMPONENT: failures(self._bench.batch, self._layout, played)}

    def propose_new_texts(
        self, candidate: Texts, reflective_dataset: Mapping[str, Sequence[Record]], components_to_update: list[str]
    ) -> Texts:
        """Nothing where the proposer has nothing."""
        with self._noted():
            child = self._propose(self._layout.parse(candidate[COMPONENT]), reflective_dataset[COMPONENT])
        return {} if child is None else {COMPONENT: self._layout.text(child)}

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = error
            raise


class Silence:
    """gepa's log, which nobody reads."""

    def log(self, message: str) -> None:
        pass


def search_by_gepa(prompts: Sequence[Prompt], propose: Proposer, bench: Bench, search: Search) -> Pool | None:
    """The pool that gepa makes of the first prompt; None without a budget."""
    from gepa.api import optimize

    if not bench.left:
        return None
    problems = search.scored(prompts=1, rows=bench.problems, budget=bench.left)
    size = search.tried(bench.problems)
    # gepa looks at its budget between proposals only; this is what one may cost beyond it.
    ends_at = bench.left - (2 * size + problems) + 1
    playground: Any = Playground(propose, bench)
    found: Any = optimize(
        seed_candidate={COMPONENT: bench.layout.text(prompts[0])},
        trainset=list(range(bench.problems)),
        valset=list(range(problems)),
        adapter=playground,
        reflection_minibatch_size=size,
        acceptance_criterion="improvement_or_equal" if search.equal else "strict_improvement",
        max_metric_calls=max(ends_at, 1),
        logger=Silence(),
        seed=int(torch.randint(2**31, ())),
    )
    if playground.error is not None:
        raise playground.error
    # The same prompt may have been accepted twice: its first scores count.
    rows: dict[Prompt, list[float]] = {}
    for candidate, scored in zip(found.candidates, found.val_subscores, strict=True):
        rows.setdefault(bench.layout.parse(candidate[COMPONENT]), [scored[v] for v in range(problems)])
    return Pool.of(list(rows), torch.tensor(list(rows.values())), search)
