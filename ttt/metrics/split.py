"""The shares of slow and fast weights in a metric, from the matrices of two or three modes.

S, F, K: oriented matrices (see matrix.py) of the modes slow, fast and carried. C: the matrix of a
mode that reads some tokens of the old task before it is scored. Mode fast is one: its state starts
empty and is written while reading.

    K = S + (F - S) + (K - F)      slow weights, what reading adds, what the carried state adds

A metric that is linear in the matrix splits exactly along this sum. Forgetting splits in two:

    lost knowledge   forgetting in C: gone even after reading tokens of the task again
    lost access      forgetting in S minus that in C: hidden in S, restored by reading
"""

from __future__ import annotations

from typing import NamedTuple

from ttt.metrics.matrix import (
    NOISE,
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

# The forgetting_max_... metrics are missing: a maximum over rows is not linear.
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
    """`slow` + `read` is the metric in mode fast; plus `carried` it is that in mode carried."""

    slow: float
    read: float
    carried: float


def parts(metric: Metric, at: Rows, *, slow: Matrix, fast: Matrix, carried: Matrix | None = None) -> Parts:
    """Split a linear metric into the contributions of slow weights, reading, and the carried state.

    For forgetting_at_learn, `read` is negative where fast weights make up for what slow weights
    lost. For learning_slope, `slow` says whether the outer loop still learns and `read` whether the
    inner loop still adapts. The part `carried` is NaN without a matrix of that mode.
    """
    assert metric in LINEAR, f"{metric.__name__} is not linear: its parts do not add up"
    added = float("nan") if carried is None else metric(carried - fast, at)
    # For a linear metric, that of a difference of matrices is the difference of the metrics.
    return Parts(slow=metric(slow, at), read=metric(fast - slow, at), carried=added)


def plasticity_loss(a: Matrix, at: Rows) -> float:
    """-learning_slope: how much less is learned with each further task; positive is harm."""
    return -learning_slope(a, at)


def fast_share(
    slow: Matrix, fast: Matrix, at: Rows, *, harm: Metric = forgetting_at_learn, noise: float = NOISE
) -> float:
    """1 - harm(F) / harm(S): the share of the slow weights' harm that fast weights make up for.

    1: no harm is left; 0: no help; below 0: fast weights add harm. `harm`: any forgetting_..., or
    plasticity_loss. NaN where the harm to the slow weights is at most `noise` (in the unit of the
    harm). It is a ratio of two noisy numbers, so over seeds divide the means; do not average the
    shares.
    """
    whole = harm(slow, at)
    # Within the noise the quotient would be a ratio of two random numbers.
    return 1 - harm(fast, at) / whole if whole > noise else float("nan")


def lost_knowledge(readapted: Matrix, at: Rows) -> float:
    """mean over old j of (C[j, j] - C[P, j]): forgetting_at_learn in C.

    The sum with lost_access is forgetting_at_learn in S.
    """
    return forgetting_at_learn(readapted, at)


def lost_access(slow: Matrix, readapted: Matrix, at: Rows) -> float:
    """mean over old j of ((C - S)[P, j] - (C - S)[j, j]): forgetting in S that reading undoes.

    That is what reading adds at the end, minus what it added right after learning, when the slow
    weights still knew the task. Below zero, reading helps less at the end.
    """
    # Linear, so forgetting in S - C is forgetting in S minus forgetting in C.
    return forgetting_at_learn(slow - readapted, at)


def forgetting_recovered(slow: Matrix, fast: Matrix, at: Rows) -> float:
    """forgetting_max_seen of S minus that of F: lost_access from the best row since learning."""
    return forgetting_max_seen(slow, at) - forgetting_max_seen(fast, at)


def access_recovered(slow: Matrix, readapted: Matrix, at: Rows) -> float:
    """mean over old j of (C[P, j] - S[P, j]): what reading tokens of an old task adds at the end.

    Unlike lost_access it includes what reading added right after learning already.
    """
    return mean_of((readapted - slow)[-1, at < len(slow) - 1])
