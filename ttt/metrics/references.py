"""Metrics that compare a stream with runs of their own: untrained, fresh and joint networks.

The conventions of matrix.py: A[i, j] oriented (higher is better), `at[j]` = l_j, NaN = not measured. References are
oriented as A is. A metric whose reference was not measured is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ttt.metrics.matrix import Matrix, Rows, learned, learning_slope, mean_of, zero_shot

# Below a hundredth (of a bit, or of all answers) a difference between two runs is no ground to divide by.
NOISE = 0.01


class References(NamedTuple):
    """Values on task j of networks that did not go through the stream, with the stream's budget for each task.

    `untrained[j]`: u_j, before any training, a mean over several initialisations.
    `fresh[j]`: I_j, a fresh network trained on task j alone.
    `joint[i, j]`: M[i, j], a network trained on all tasks together that are taught by row i; of the shape of A. One
    joint run over the whole stream fills the last row, and leaves the others NaN.
    `frozen[j]`: a network whose slow weights stay those of the base, after reading the whole stream.
    """

    untrained: Matrix
    fresh: Matrix
    joint: Matrix
    frozen: Matrix


def unmeasured(*, phases: int, tasks: int) -> References:
    """References of which nothing is known."""
    vector = np.full(tasks, np.nan)
    return References(vector, vector, np.full((phases + 1, tasks), np.nan), vector)


def from_values(values: Mapping[str, Sequence[float]], *, sign: int, phases: int, tasks: int) -> References:
    """References from a value for each task, by name (`untrained`, `independent`, `joint`, `frozen`), in the unit of
    the quantity; `sign` orients them. What is not there was not measured."""
    none = unmeasured(phases=phases, tasks=tasks)
    found = {name: sign * np.asarray(row, dtype=np.float64) for name, row in values.items()}
    joint = none.joint.copy()
    joint[-1] = found.get("joint", none.joint[-1])
    return References(
        untrained=found.get("untrained", none.untrained),
        fresh=found.get("independent", none.fresh),
        joint=joint,
        frozen=found.get("frozen", none.frozen),
    )


def fwt_b_untrained(a: Matrix, at: Rows, references: References) -> float:
    """mean over all j but those of the first phase of (A[l_j - 1, j] - u_j): forward transfer of GEM (Lopez-Paz &
    Ranzato 2017) with its own b. The base counts as transfer; fwt_b_row0 leaves it out."""
    return mean_of((zero_shot(a, at) - references.untrained)[at > 1])


def fwt_independent(a: Matrix, at: Rows, references: References) -> float:
    """mean over all j but those of the first phase of (A[j, j] - I_j): does the past help learning? Another quantity
    than GEM's, which asks before learning."""
    return mean_of((learned(a, at) - references.fresh)[at > 1])


def intransigence_joint(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of (M[l_j, j] - A[j, j]): intransigence (Chaudhry et al. 2018) for every k; lower is better."""
    return mean_of(learned(references.joint, at) - learned(a, at))


def intransigence_joint_last(a: Matrix, at: Rows, references: References) -> float:
    """M[l_k, k] - A[k, k] for the task k that was learned last: intransigence at k = J; lower is better."""
    return mean_of((learned(references.joint, at) - learned(a, at))[at == at.max()])


def plasticity_gap_fresh(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of (I_j - A[j, j]): what a fresh network learns more; lower is better."""
    return mean_of(references.fresh - learned(a, at))


def plasticity_gap_slope(a: Matrix, at: Rows, references: References) -> float:
    """Least-squares slope of (I_j - A[j, j]) over the order of learning, per task: the loss of plasticity itself.

    Above zero it is being lost. Tasks need not be equally hard, as for learning_slope: the fresh network meets the
    same ones. Undefined below three tasks.
    """
    return -learning_slope(a - references.fresh, at)


def normalised(a: Matrix, references: References, *, noise: float = NOISE) -> Matrix:
    """q[i, j] = (A[i, j] - A[0, j]) / (M[P, j] - A[0, j]): 0 = start of the stream, 1 = joint training, no unit.

    Of the shape of A, so that every metric of matrix.py takes it. NaN for a task on which joint training gains no
    more than `noise` (in the unit of A): there is nothing to measure against.
    """
    room = references.joint[-1] - a[0]
    return (a - a[0]) / np.where(room > noise, room, np.nan)


def score_final(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of q[P, j], see `normalised`: the share of what joint training gains that the stream kept."""
    return mean_of(normalised(a, references)[-1])


def score_learning(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of q[l_j, j], see `normalised`: the share of it that each task had right after it was learned."""
    return mean_of(learned(normalised(a, references), at))


def final_over_frozen(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of (A[P, j] - frozen[j]): what the slow weights' learning is worth at the end, beside fast weights
    alone; below zero they had better not learned."""
    return mean_of(a[-1] - references.frozen)


ReferenceMetric = Callable[[Matrix, Rows, References], float]
REFERENCE_METRICS: dict[str, ReferenceMetric] = {
    "fwt_b_untrained": fwt_b_untrained,
    "fwt_independent": fwt_independent,
    "intransigence_joint": intransigence_joint,
    "intransigence_joint_last": intransigence_joint_last,
    "plasticity_gap_fresh": plasticity_gap_fresh,
    "plasticity_gap_slope": plasticity_gap_slope,
    "score_final": score_final,
    "score_learning": score_learning,
    "final_over_frozen": final_over_frozen,
}
# Of these a lower value is better.
LOWER = ("intransigence_joint", "intransigence_joint_last", "plasticity_gap_fresh", "plasticity_gap_slope")


def why_not_compared(metric: str, measured: Collection[str]) -> str:
    """The reason why a metric is NaN, with these references measured."""
    for name in ("untrained", "independent", "joint", "frozen"):
        if name not in measured:
            return f"reference {name} was not measured"
    last_only = metric == "intransigence_joint"
    return "a joint run over the whole stream tells of its end alone" if last_only else "undefined"
