"""Small functions between ttt.metrics and what ttt.results.sources hands out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ttt.metrics import split
from ttt.metrics.curves import Curves, Savings, lca, mean_seen
from ttt.metrics.matrix import Matrix, Metric, Rows, learning_slope
from ttt.metrics.slope import slope_interval
from ttt.results.sources import Modes

NAN = float("nan")


def slope_low(a: Matrix, at: Rows) -> float:
    """The lower end of the 95 % interval of learning_slope."""
    return slope_interval(a, at).low


def slope_high(a: Matrix, at: Rows) -> float:
    """The upper end of the 95 % interval of learning_slope."""
    return slope_interval(a, at).high


def base_final(values: Sequence[float], sign: int) -> float:
    """The oriented score on the base distribution when it was measured last."""
    return sign * last(values)


def base_forgetting(values: Sequence[float], sign: int) -> float:
    """What the base distribution lost from the first time it was measured to the last."""
    return sign * (values[0] - values[-1]) if values else NAN


def known_before(values: Sequence[float], sign: int) -> float:
    """The oriented score on what the model knew, before the stream."""
    return sign * values[0] if values else NAN


def gain_in(metric: Metric) -> Callable[[Matrix, Matrix, Rows], float]:
    """A metric of one matrix, applied to what the mode in use has over mode slow."""
    return lambda slow, used, at: metric(used - slow, at)


def part_of(metric: Metric, part: Literal["slow", "read", "carried"]) -> Callable[[Modes], float]:
    """What one of the modes adds to a linear metric, see ttt.metrics.split.parts."""

    def share(modes: Modes) -> float:
        parts = split.parts(metric, modes.at, slow=modes.slow, fast=modes.used, carried=modes.carried)
        # A policy has two modes: all that its prompt adds is what mode carried has over mode slow.
        return float(getattr(parts, "read" if part == "carried" and modes.carried is None else part))

    return share


def lost_in(part: Literal["slow", "read", "carried"]) -> Callable[[Modes], float]:
    """What one of the modes adds to plasticity_loss, where harm is positive."""
    slope = part_of(learning_slope, part)
    return lambda modes: -slope(modes)


def knowledge_lost(modes: Modes) -> float:
    return split.lost_knowledge(modes.used, modes.at)


def access_lost(modes: Modes) -> float:
    return split.lost_access(modes.slow, modes.used, modes.at)


def plasticity_share(modes: Modes) -> float:
    return split.fast_share(modes.slow, modes.used, modes.at, harm=split.plasticity_loss)


def knowledge_lost_carried(modes: Modes) -> float:
    return split.lost_knowledge(carried_of(modes), modes.at)


def access_lost_carried(modes: Modes) -> float:
    return split.lost_access(modes.slow, carried_of(modes), modes.at)


def share_carried(modes: Modes) -> float:
    return split.fast_share(modes.slow, carried_of(modes), modes.at)


def carried_of(modes: Modes) -> Matrix:
    assert modes.carried is not None
    return modes.carried


def area(curves: Curves, every: int, *, shots: int) -> float:
    """Learning-curve area over `shots` evaluations, see ttt.metrics.curves.lca."""
    return lca(curves, beta=shots, every=every)


def mean_saving(savings: Sequence[Savings]) -> float:
    """The mean over tasks that came back; NaN where none did."""
    return mean_seen(savings)[0]


def censored_share(savings: Sequence[Savings]) -> float:
    """The share of tasks that did not come back."""
    return mean_seen(savings)[1]


def last(series: Sequence[float]) -> float:
    """The last value; NaN where there is none."""
    return series[-1] if series else NAN
