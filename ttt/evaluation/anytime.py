"""Anytime evaluation (De Lange et al. 2023, arXiv 2205.13452): measure inside phases, every n
steps.

Measured are the tasks learned so far and the current one, in every mode. It shows what the rows of
R do not: how far old tasks fall in between. The rows of R are points of the same curves, so that
nothing is measured twice. It only reads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from ttt.evaluation.evaluate import evaluate
from ttt.evaluation.plan import Plan
from ttt.learner import Engine
from ttt.results.events import Probed
from ttt.results.results import Results
from ttt.stream import Stream
from ttt.training.clock import Clock
from ttt.training.recipe import Recipe
from ttt.training.train import Progress


def piece_length(plan: Plan, *, report_every: int) -> int:
    """Steps to train at a time, so that every report and every evaluation ends a piece."""
    return gcd(report_every, plan.anytime) if plan.anytime else report_every


def is_due(plan: Plan, step: int, *, of: int) -> bool:
    """Is there an evaluation after this step (from 1) of a phase?

    At its end the row of R is one.
    """
    return plan.anytime is not None and step % plan.anytime == 0 and step < of


def joined_progress(parts: Sequence[Progress], *, since: int) -> Progress:
    """One report for several successive pieces, the first of which began after step `since`."""
    starts = [since, *(part.step for part in parts)]
    steps = [part.step - start for part, start in zip(parts, starts, strict=False)]
    tokens, seconds = sum(part.tokens for part in parts), sum(part.seconds for part in parts)

    def mean(values: Sequence[float | None]) -> float:
        # A value may be missing in a piece that watched nothing: weigh those that are there.
        measured = [(value, weight) for value, weight in zip(values, steps, strict=True) if value is not None]
        return sum(value * weight for value, weight in measured) / sum(weight for _, weight in measured)

    watched = {name: mean([part.watched.get(name) for part in parts]) for part in parts for name in part.watched}
    loss = mean([part.loss for part in parts])
    together = replace(parts[-1], loss=loss, tokens=tokens, seconds=seconds, watched=watched)
    return together if len(parts) > 1 else parts[0]


def measure_inside(
    engine: Engine, stream: Stream, *, recipe: Recipe, index: int, task_step: int, results: Results, clock: Clock
) -> Probed:
    """Evaluate `task_step` steps into phase `index` (from 0); add scores to `results.points`."""
    start = time.perf_counter()
    current = stream.phases[index].task
    seen = [j for j, first in enumerate(stream.learned_at) if first <= index]
    columns = sorted({*seen, current})
    batches = [stream.tasks[j].evaluation() for j in columns]
    scores = evaluate(engine, batches, recipe=recipe, tasks=columns, token_bytes=stream.token_bytes)
    clock.evaluation += time.perf_counter() - start
    results.points.append({"step": clock.step, "columns": columns, "scores": scores})
    return Probed(
        task=index + 1,
        task_step=task_step,
        columns=columns,
        current=current,
        seen=seen,
        tasks=scores,
        **clock.tick(),
    )
