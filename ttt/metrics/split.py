"""How much of a metric is slow and how much fast, from the matrices of two or three modes.

S, F, K: oriented matrices (see matrix.py) of modes slow, fast and carried; C: of a mode that reads some tokens of
the old task before it is scored (mode fast does so: its state starts empty and is written while reading).

    K = S + (F - S) + (K - F)      slow weights, what reading adds, what the carried state adds to that

A metric that is linear in the matrix splits with it, exactly. What is forgotten is told apart by what comes back:

    lost knowledge   forgetting in C: gone even after reading tokens of the task again
    lost access      forgetting in S minus that: the slow weights alone no longer show it, reading brings it back
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ttt.metrics.matrix import (
    Matrix,
    Metric,
    Rows,
    avg_final,
    avg_learning,
    bwt_gem,
    bwt_pairs,
    forgetting_at_learn,
    forgetting_max_seen,
    fwt_b_row0,
    learning_slope,
    mean_of,
)
from ttt.metrics.references import NOISE

# A maximum over rows is not linear: forgetting_max_... does not split.
LINEAR: tuple[Metric, ...] = (
    avg_final,
    avg_learning,
    bwt_gem,
    bwt_pairs,
    forgetting_at_learn,
    fwt_b_row0,
    learning_slope,
)


class Parts(NamedTuple):
    """`slow` + `read` + `carried` = the metric in mode carried; `slow` + `read` = in mode fast."""

    slow: float
    read: float
    carried: float


def parts(metric: Metric, at: Rows, *, slow: Matrix, fast: Matrix, carried: Matrix | None = None) -> Parts:
    """A linear metric split into what the slow weights, reading, and the carried state each contribute.

    For forgetting_at_learn: the part `read` is negative where fast weights make up for what the slow ones lost. For
    learning_slope: does the outer loop still learn (`slow`), does the inner loop still adapt (`read`)? Without a
    carried state its part is NaN.
    """
    assert metric in LINEAR, f"{metric.__name__} is not linear: its parts do not add up"
    brought = float("nan") if carried is None else metric(carried - fast, at)
    return Parts(slow=metric(slow, at), read=metric(fast - slow, at), carried=brought)


def plasticity_loss(a: Matrix, at: Rows) -> float:
    """-learning_slope: what is learned less with each task; + is harm, per task."""
    return -learning_slope(a, at)


def fast_share(
    slow: Matrix, fast: Matrix, at: Rows, *, harm: Metric = forgetting_at_learn, noise: float = NOISE
) -> float:
    """1 - harm(F) / harm(S): the share of the slow weights' harm that fast weights make up for.

    1: none is left; 0: no help; below 0: fast weights add to it. `harm`: any forgetting_..., or plasticity_loss.
    NaN where the slow weights took no more harm than `noise` (in the unit of the harm): a share of nothing. A ratio
    of two noisy numbers; over seeds rather divide the means than average the shares.
    """
    whole = harm(slow, at)
    return 1 - harm(fast, at) / whole if whole > noise else float("nan")


def lost_knowledge(readapted: Matrix, at: Rows) -> float:
    """forgetting_at_learn in C: mean over old j of (C[j, j] - C[P, j]). With lost_access it is forgetting in S."""
    return forgetting_at_learn(readapted, at)


def lost_access(slow: Matrix, readapted: Matrix, at: Rows) -> float:
    """mean over old j of ((C - S)[P, j] - (C - S)[j, j]): forgetting in S that is none in C.

    That is, what reading adds at the end beyond what it added right after learning, when the slow weights still
    knew the task. Below zero reading has come to help less.
    """
    return forgetting_at_learn(slow - readapted, at)


def forgetting_recovered(slow: Matrix, fast: Matrix, at: Rows) -> float:
    """forgetting_max_seen of S minus that of F. As lost_access, but from the best row since learning."""
    return forgetting_max_seen(slow, at) - forgetting_max_seen(fast, at)


def access_recovered(slow: Matrix, readapted: Matrix, at: Rows) -> float:
    """mean over old j of (C[P, j] - S[P, j]): what reading tokens of an old task brings back at the end.

    It counts all that reading brings, also what it would have brought right after learning: lost_access does not.
    """
    return mean_of((readapted - slow)[-1, at < len(slow) - 1])


# Those of two modes alone, as functions of slow, fast, at.
SPLIT: dict[str, Callable[[Matrix, Matrix, Rows], float]] = {
    "forgetting_recovered": forgetting_recovered,
    "lost_access": lost_access,
    "access_recovered": access_recovered,
    "fast_share": fast_share,
}
