"""Results in which everything is measured that a run can measure."""

from __future__ import annotations

import numpy as np
import pytest

from ttt.results.results import Results
from ttt.results.scores import QUANTITIES, REWARDED

TASKS = 3
KINDS = ("dormant_tau0", "dormant_tau0.1", "dead_zero", "erank", "stable_rank", "weight_rms", "weight_l2", "grad_l2")
FAST_KINDS = ("fast_erank", "fast_stable_rank", "fast_over_w0")


def measured(*, modes=("slow", "fast", "carried"), quantities=(*QUANTITIES,), seed=0):
    """A run of three tasks that measured all there is, with random scores."""
    rng = np.random.default_rng(seed)
    results = Results(
        scenario="task",
        tasks=[f"task {j}" for j in range(TASKS)],
        fingerprints=[""] * TASKS,
        learned_at=list(range(1, TASKS + 1)),
        entropy=[0.1] * TASKS,
        phases=TASKS,
    )
    results.every = 10

    def scores(count):
        return {mode: {quantity: rng.random(count).tolist() for quantity in quantities} for mode in modes}

    for row in range(TASKS + 1):
        results.add(
            columns=list(range(TASKS)),
            scores=scores(TASKS),
            base=scores(1),
            step=20 * row,
            current=row - 1 if row else None,
            diagnostics={f"probe/layer/{kind}": rng.random() for kind in (*KINDS, *FAST_KINDS)}
            | {f"drift/{mode}/kl_base": rng.random() for mode in ("slow", "fast")},
            profile=rng.random((TASKS, 16)).tolist(),
        )
        if row < TASKS:
            results.points.append({"step": 20 * row + 10, "columns": list(range(row + 1)), "scores": scores(row + 1)})
    results.relearned = [{"task": j, "steps": [0, 10, 20], "scores": scores(3)} for j in range(TASKS)]
    results.references = {name: scores(TASKS) for name in ("untrained", "independent", "joint", "frozen")}
    return results


@pytest.fixture(scope="session")
def learner():
    """A model with fast weights, used in mode fast."""
    return measured()


@pytest.fixture(scope="session")
def policy():
    """A policy with prompts, used in mode carried."""
    return measured(modes=("slow", "fast", "carried", "archived"), quantities=(*QUANTITIES, *REWARDED), seed=1)
