"""What metrics are computed from, by the word in `Metric.needs`, and when a run has it.

    R             (A, l): the matrix [P + 1, J], and the rows at which tasks were learned [J]
    learned       the same, for metrics of A[j, j] in the order of learning
    regret        (loss - entropy, l), not oriented
    base          (values on the base distribution, sign of the quantity)
    known         (values on a set of what the model knew, sign of the quantity)
    references    (A, l, References)
    gain          (A of mode slow, A of the mode in use, l)
    split ...     (Modes,); `read`: fast weights are written while reading; `carried`: a state is
                  kept from task to task
    points        (Curves,)
    shots         (Curves, steps between two points)
    relearned     (savings in batches, one of each relearned task,)
    profile       (savings in context, one of each learned task,)
    diagnostics   (means over layers, one of each row,)
    status        nothing: the number comes from status.json

Here A is R with its sign turned so that higher is better, and l is `learned_at`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ttt.metrics.matrix import Matrix, Rows
from ttt.results.metric import Name, Need
from ttt.results.results import Results
from ttt.results.savings import saved_by_reading, saved_in_relearning
from ttt.results.scores import sign

NAN = float("nan")
Arguments = tuple[Any, ...]


class MetricInput(NamedTuple):
    """`is_measured`: does a run have it? `arguments`: what a function takes for one name."""

    is_measured: Callable[[Results], bool]
    arguments: Callable[[Results, Name], Arguments]


class Modes(NamedTuple):
    """Oriented matrices of one quantity; `carried` is None without a state beside mode fast."""

    slow: Matrix
    used: Matrix
    carried: Matrix | None
    at: Rows


def diagnostic_name(key: str) -> str:
    """The metric that a diagnostic belongs to; empty where the diagnostic is an adapter's own.

    probe/LAYER/KIND -> slow/plasticity/KIND, probe/STATE/fast_KIND -> carried/plasticity/KIND,
    drift/MODE/KIND -> MODE/drift/KIND.
    """
    family, _, rest = key.partition("/")
    place, _, kind = rest.rpartition("/")
    if family == "drift":
        return f"{place}/drift/{kind}"
    if family != "probe":
        return ""
    return f"carried/plasticity/{kind.removeprefix('fast_')}" if kind.startswith("fast_") else f"slow/plasticity/{kind}"


def layer_means(results: Results, name: Name) -> list[float]:
    """A diagnostic in each row: its mean over layers, NaN if one is NaN or there is none."""
    # A mean over the layers that are finite would jump when one of them dies.
    means = []
    for row in results.rows:
        values = [x for key, x in row["diagnostics"].items() if diagnostic_name(key) == str(name)]
        means.append(sum(values) / len(values) if values else NAN)
    return means


def _matrix(results: Results, name: Name) -> Arguments:
    return results.oriented(name.mode, name.quantity), results.learned_at


def _regret(results: Results, name: Name) -> Arguments:
    # Not oriented: regret is read like the loss, less is better.
    return results.matrix(name.mode, "loss") - results.entropy, results.learned_at


def _base(results: Results, name: Name) -> Arguments:
    return results.base_values(name.mode, name.quantity), sign(name.quantity)


def known_set(metric: str) -> tuple[str, str]:
    """The name of a set and the moment, of known_NAME_MOMENT."""
    name, _, moment = metric.removeprefix("known_").rpartition("_")
    return name, moment


def _known(results: Results, name: Name) -> Arguments:
    values = results.known_values(known_set(name.metric)[0], name.mode, name.quantity)
    return values, sign(name.quantity)


def _with_references(results: Results, name: Name) -> Arguments:
    return *_matrix(results, name), results.peers(name.mode, name.quantity)


def _gain(results: Results, name: Name) -> Arguments:
    slow, used = (results.oriented(mode, name.quantity) for mode in ("slow", results.used))
    return slow, used, results.learned_at


def _modes(results: Results, name: Name) -> Arguments:
    slow, used, at = _gain(results, name)
    # Of a policy the carried mode is the one in use: there is no third part.
    both = _is_read(results) and _is_carried(results)
    return (Modes(slow, used, results.oriented("carried", name.quantity) if both else None, at),)


def _curves(results: Results, name: Name) -> Arguments:
    return (results.curves(name.mode, name.quantity),)


def _shots(results: Results, name: Name) -> Arguments:
    return *_curves(results, name), results.every


def _relearned(results: Results, name: Name) -> Arguments:
    return (saved_in_relearning(results, name.mode, name.quantity),)


def _has_rows(results: Results) -> bool:
    return results.row_count > 0


def _is_fast(results: Results) -> bool:
    return "fast" in results.modes


def _is_read(results: Results) -> bool:
    """Prompts are not written while they are read, so that reading them adds nothing of its own."""
    return _is_fast(results) and results.used == "fast"


def _is_carried(results: Results) -> bool:
    return _is_fast(results) and "carried" in results.modes


def _is_both(results: Results) -> bool:
    return _is_read(results) and _is_carried(results)


def _has_references(results: Results) -> bool:
    return bool(results.references) and _has_rows(results)


def _has_points(results: Results) -> bool:
    return bool(results.points) and _has_rows(results)


def _is_relearned(results: Results) -> bool:
    return _has_points(results) and bool(results.relearned)


def _has_profile(results: Results) -> bool:
    return any(row["profile"] for row in results.rows)


SOURCES: dict[Need, MetricInput] = {
    "R": MetricInput(_has_rows, _matrix),
    "learned": MetricInput(_has_rows, _matrix),
    "regret": MetricInput(_has_rows, _regret),
    "base": MetricInput(_has_rows, _base),
    "known": MetricInput(lambda results: bool(results.known_sets), _known),
    "references": MetricInput(_has_references, _with_references),
    "gain": MetricInput(_is_fast, _gain),
    "split": MetricInput(_is_fast, _modes),
    "split read": MetricInput(_is_read, _modes),
    "split carried": MetricInput(_is_carried, _modes),
    "split both": MetricInput(_is_both, _modes),
    "points": MetricInput(_has_points, _curves),
    "shots": MetricInput(_has_points, _shots),
    "relearned": MetricInput(_is_relearned, _relearned),
    "profile": MetricInput(_has_profile, lambda results, name: (saved_by_reading(results),)),
    "diagnostics": MetricInput(_has_rows, lambda results, name: (layer_means(results, name),)),
    # The folder of a run has it, not its results: see ttt.storage.read.
    "status": MetricInput(lambda results: False, lambda results, name: ()),
}
