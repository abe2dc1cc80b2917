"""A round of search by the gepa package itself (search=gepa), from the best prompt so far.

gepa starts from one prompt and scores it again, so no reward is stale; the rest of the pool must be
found again or is lost.
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
    """Our side of gepa's adapter interface: play a candidate, show its failures, propose another.

    gepa only logs an exception in a proposal and goes on; `error` keeps it, to be raised later.
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

        (played,) = self._bench.play([self._layout.parse(candidate[COMPONENT])], [batch])
        # gepa handles rollouts one by one.
        each = [played.pick([i]) for i in range(len(batch))]
        answers = played.answer_RA.tolist()
        return EvaluationBatch(answers, played.reward_R.tolist(), each if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: Texts, eval_batch: EvaluationBatch[Rollouts, list[int]], components_to_update: list[str]
    ) -> Mapping[str, Sequence[Record]]:
        assert eval_batch.trajectories is not None, "gepa captures traces wherever it reflects"
        played = Rollouts.cat(eval_batch.trajectories)
        with self._recording_errors():
            return {COMPONENT: failures(self._bench.batch, self._layout, played)}

    # gepa looks this method up by name; without it, it proposes nothing and only logs that.
    def propose_new_texts(
        self, candidate: Texts, reflective_dataset: Mapping[str, Sequence[Record]], components_to_update: list[str]
    ) -> Texts:
        """Return the new texts; no text at all where the proposer has no proposal."""
        with self._recording_errors():
            prompt, records = self._layout.parse(candidate[COMPONENT]), reflective_dataset[COMPONENT]
            child = self._bench.ask(self._propose, prompt, records)
        return {} if child is None else {COMPONENT: self._layout.text(child)}

    @contextmanager
    def _recording_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error = error
            raise


class Silence:
    """A logger for gepa that drops every message."""

    def log(self, message: str) -> None:
        pass


def search_by_gepa(prompts: Sequence[Prompt], propose: Proposer, bench: Bench, search: Search) -> Pool | None:
    """Run gepa from the first of `prompts`. Return the pool that results; None without a budget."""
    from gepa.api import optimize

    if not bench.left:
        return None
    problems = search.scoring_size(prompts=1, rows=bench.problems, budget=bench.left)
    size = search.minibatch_size(bench.problems)
    # gepa checks its budget only between proposals, so the cost of one proposal is held back.
    ends_at = bench.left - (2 * size + problems) + 1
    playground: Any = Playground(propose, bench)
    result: Any = optimize(
        seed_candidate={COMPONENT: bench.layout.text(prompts[0])},
        trainset=list(range(bench.problems)),
        valset=list(range(problems)),
        adapter=playground,
        reflection_minibatch_size=size,
        acceptance_criterion="improvement_or_equal" if search.equal else "strict_improvement",
        max_metric_calls=max(ends_at, 1),
        logger=Silence(),
        # gepa draws from a generator of its own; this ties it to the run's seed.
        seed=int(torch.randint(2**31, ())),
    )
    if playground.error is not None:
        raise playground.error
    # gepa may accept the same prompt twice: its first scores count.
    rows: dict[Prompt, list[float]] = {}
    for candidate, scored in zip(result.candidates, result.val_subscores, strict=True):
        rows.setdefault(bench.layout.parse(candidate[COMPONENT]), [scored[v] for v in range(problems)])
    return Pool.of(list(rows), torch.tensor(list(rows.values())), search)
