"""Metrics that compare a stream with reference runs: untrained, fresh, joint and frozen networks.

The conventions are those of matrix.py: A[i, j] oriented (higher is better), `at[j]` = l_j, NaN =
not measured. References are oriented like A. A metric whose reference was not measured is NaN.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ttt.metrics.matrix import NOISE, Matrix, Rows, learned, learning_slope, mean_of, zero_shot


class References(NamedTuple):
    """Values on task j of networks trained outside the stream, with its budget for each task.

    `untrained[j]`: u_j, before any training; a mean over several initialisations.
    `fresh[j]`: I_j, a fresh network trained on task j alone.
    `joint[i, j]`: M[i, j], a network trained jointly on all tasks that are taught by row i; of the
    shape of A. A joint run over the whole stream fills the last row and leaves the others NaN.
    `frozen[j]`: a network that keeps the slow weights of the base, after reading the whole stream.
    """

    untrained: Matrix
    fresh: Matrix
    joint: Matrix
    frozen: Matrix


def unmeasured(*, phases: int, tasks: int) -> References:
    """Return references of which none was measured."""
    vector = np.full(tasks, np.nan)
    return References(vector, vector, np.full((phases + 1, tasks), np.nan), vector)


def from_values(values: Mapping[str, Sequence[float]], *, sign: int, phases: int, tasks: int) -> References:
    """Return references from rows of values called untrained, independent, joint and frozen.

    A missing row was not measured. Values are in the unit of the quantity; `sign` orients them.
    """
    none = unmeasured(phases=phases, tasks=tasks)
    oriented = {name: sign * np.asarray(row, dtype=np.float64) for name, row in values.items()}
    # A joint run sees the whole stream, so it says something about the last row alone.
    joint = none.joint.copy()
    joint[-1] = oriented.get("joint", none.joint[-1])
    return References(
        untrained=oriented.get("untrained", none.untrained),
        fresh=oriented.get("independent", none.fresh),
        joint=joint,
        frozen=oriented.get("frozen", none.frozen),
    )


def fwt_b_untrained(a: Matrix, at: Rows, references: References) -> float:
    """mean over j with l_j > 1 of (A[l_j - 1, j] - u_j): forward transfer, b = untrained network.

    Source: GEM (Lopez-Paz & Ranzato 2017). What the base knows counts as transfer, unlike in
    fwt_b_row0.
    """
    return mean_of((zero_shot(a, at) - references.untrained)[at > 1])


def fwt_independent(a: Matrix, at: Rows, references: References) -> float:
    """mean over j with l_j > 1 of (A[j, j] - I_j): how much the past helps learning.

    It differs from forward transfer of GEM, which is measured before learning.
    """
    return mean_of((learned(a, at) - references.fresh)[at > 1])


def intransigence_joint(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of (M[l_j, j] - A[j, j]): intransigence, averaged over every k; lower is better.

    Source: Chaudhry et al. 2018.
    """
    return mean_of(learned(references.joint, at) - learned(a, at))


def intransigence_joint_last(a: Matrix, at: Rows, references: References) -> float:
    """M[l_k, k] - A[k, k] for the task k learned last: intransigence at k = J; lower is better."""
    # A phase teaches one task, so this is a single cell.
    return mean_of((learned(references.joint, at) - learned(a, at))[at == at.max()])


def plasticity_gap_fresh(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of (I_j - A[j, j]): how much more a fresh network learns; lower is better."""
    return mean_of(references.fresh - learned(a, at))


def plasticity_gap_slope(a: Matrix, at: Rows, references: References) -> float:
    """Least-squares slope of (I_j - A[j, j]) over the order of learning, per task.

    Above zero, plasticity is being lost. Unlike for learning_slope, tasks need not be equally hard:
    the fresh network learns the same ones. NaN below three tasks.
    """
    # In A - I each cell right after learning is minus the gap of its task.
    return -learning_slope(a - references.fresh, at)


def normalised(a: Matrix, references: References, *, noise: float = NOISE) -> Matrix:
    """Return q[i, j] = (A[i, j] - A[0, j]) / (M[P, j] - A[0, j]), of the shape of A, without unit.

    0: as at the start of the stream; 1: as after joint training. Every metric of matrix.py takes q.
    NaN for a task on which joint training gains no more than `noise` (in the unit of A).
    """
    # Dividing by next to nothing would let one such task rule the mean.
    room = references.joint[-1] - a[0]
    return (a - a[0]) / np.where(room > noise, room, np.nan)


def score_final(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of q[P, j]: the share of joint training's gain at the end (see `normalised`)."""
    return mean_of(normalised(a, references)[-1])


def score_learning(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of q[l_j, j]: the share right after learning (see `normalised`)."""
    return mean_of(learned(normalised(a, references), at))


def final_over_frozen(a: Matrix, at: Rows, references: References) -> float:
    """mean over j of (A[P, j] - frozen[j]): what slow learning adds to fast weights alone.

    Below zero, slow learning did harm.
    """
    return mean_of(a[-1] - references.frozen)


def why_not_compared(metric: str, measured: Collection[str]) -> str:
    """Return why a metric is NaN when the references `measured` are there, in the user's words."""
    for name in ("untrained", "independent", "joint", "frozen"):
        if name not in measured:
            return f"reference {name} was not measured"
    last_only = metric == "intransigence_joint"
    return "a joint run over the whole stream tells of its end alone" if last_only else "undefined"
