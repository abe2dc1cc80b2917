"""Every number of a run by its name: value, direction, unit, label, and why it is NaN.

    MODE/QUANTITY/METRIC        of R, the base, references, points inside tasks, savings
    MODE/regret/METRIC          averages of the loss above the entropy of each task
    fast_gain/QUANTITY/METRIC   what the mode in use has over mode slow
    MODE/QUANTITY/known_NAME_*  of what the model knew before: set NAME, where it was measured
    split/QUANTITY/METRIC       what slow weights, reading and the carried state each add to a harm
    MODE/plasticity/KIND        diagnostics of units and weights: means over layers, in the last row
    MODE/drift/KIND             distance from the base, on the base's own distribution
    cost/run/KEY                what the run took, from status.json

The metrics themselves are in ttt.results.definitions. A name exists only if the run measured
something for it. Importing this stays light: a comparison reads a thousand runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

from ttt.metrics.anytime import shots
from ttt.metrics.matrix import along
from ttt.results.definitions import (
    COSTS,
    DRIFT,
    FAST_GAIN,
    KNOWN,
    KNOWN_DRIFT,
    LCA,
    METRICS,
    PLASTICITY,
    REGRET,
    SPLIT,
)
from ttt.results.metric import Metric, Name, Need
from ttt.results.results import Results
from ttt.results.scores import quantity_of, sign
from ttt.results.sources import SOURCES, diagnostic_name, known_set, layer_means
from ttt.results.undefined import why_nan

NAN = float("nan")


# A comparison asks for the same few names of each of a thousand runs.
@cache
def find(name: str) -> Metric:
    """The metric called MODE/QUANTITY/METRIC. Raises KeyError where there is none."""
    if name.count("/") != 2:
        raise KeyError(name)
    _, _, metric = parts = Name.of(name)
    # The area carries its number of evaluations in its name, because runs with different numbers
    # do not compare.
    evaluations = metric.removeprefix("lca_")
    if evaluations != metric and evaluations.isdecimal():
        return replace(LCA, of=partial(LCA.of, shots=int(evaluations)))
    return _of_known_set(parts) or _table(parts)[metric]


def _of_known_set(name: Name) -> Metric | None:
    """The metric, if its name carries that of a set of what the model knew before."""
    if name.quantity == "drift" and name.metric.startswith("kl_known_"):
        return replace(KNOWN_DRIFT, label=KNOWN_DRIFT.label.format(name=name.metric.removeprefix("kl_known_")))
    set_name, moment = known_set(name.metric)
    if name.metric.startswith("known_") and moment in KNOWN:
        return replace(KNOWN[moment], label=KNOWN[moment].label.format(name=set_name))
    return None


def _table(name: Name) -> Mapping[str, Metric]:
    beside = {"cost": COSTS, "fast_gain": FAST_GAIN, "split": SPLIT}
    derived = {"regret": REGRET, "plasticity": PLASTICITY, "drift": DRIFT}
    # A word in place of a mode decides first, then one in place of a quantity.
    return beside.get(name.mode) or derived.get(name.quantity) or METRICS


class Shape(NamedTuple):
    """What decides which metrics a run has; the runs of a sweep have it in common.

    `known_sets`: name, mode and quantities of each; `diagnosed`: metrics of units and of drift;
    `lines`: those of METRICS, which may grow.
    """

    modes: tuple[str, ...]
    quantities: tuple[str, ...]
    areas: tuple[str, ...]
    known_sets: tuple[tuple[str, str, tuple[str, ...]], ...]
    diagnosed: tuple[str, ...]
    measured: frozenset[Need]
    lines: tuple[str, ...]

    @classmethod
    def of(cls, results: Results) -> Shape:
        # A dict keeps the order of the rows, and drops what they and several layers repeat.
        keys = dict.fromkeys(key for row in results.rows for key in row["diagnostics"])
        return cls(
            tuple(results.modes),
            tuple(results.quantities),
            (_area_name(results),) if results.points else (),
            tuple((name, mode, tuple(x)) for name, modes in results.known_sets.items() for mode, x in modes.items()),
            tuple(name for name in dict.fromkeys(map(diagnostic_name, keys)) if name),
            frozenset(need for need, source in SOURCES.items() if source.is_measured(results)),
            tuple(METRICS),
        )


def names(results: Results) -> list[str]:
    """Every metric of a run, in the order of results.json."""
    return list(_names(Shape.of(results)))


@cache
def _names(shape: Shape) -> tuple[str, ...]:
    return tuple(name for name in _in_order(shape) if find(name).needs in shape.measured)


def _in_order(shape: Shape) -> Iterator[str]:
    modes, quantities = shape.modes, shape.quantities
    curves = [quantity for quantity in quantities if quantity_of(quantity).curve]
    # Files are compared byte by byte: this order is part of what results.json promises.
    for mode in modes:
        yield from _product([mode], quantities, _needing("R", "base", "references"))
        yield from _product([mode], ["regret"], REGRET)
    yield from _product(["fast_gain"], quantities, FAST_GAIN)
    yield from _product(modes, quantities, _needing("learned"))
    yield from _product(modes, curves, [*_needing("points"), *shape.areas, *_needing("relearned")])
    yield from _product(["fast"], ["loss"], _needing("profile"))
    yield from _product(["split"], quantities, SPLIT)
    for name, mode, scored in shape.known_sets:
        yield from _product([mode], scored, [f"known_{name}_{moment}" for moment in KNOWN])
    yield from shape.diagnosed


def _needing(*needs: Need) -> list[str]:
    return [name for name, metric in METRICS.items() if metric.needs in needs]


def _product(modes: Iterable[str], quantities: Iterable[str], metrics: Iterable[str]) -> Iterator[str]:
    return (f"{mode}/{quantity}/{metric}" for mode in modes for quantity in quantities for metric in metrics)


def _area_name(results: Results) -> str:
    return f"lca_{shots(results.curves(results.modes[0], 'loss'), every=results.every)}"


def metric(results: Results, name: str) -> float:
    """The value of one metric; NaN where it is undefined or was not measured.

    Raises KeyError for a name that no run has.
    """
    entry, parts = find(name), Name.of(name)
    source = SOURCES[entry.needs]
    of_matrix = entry.needs not in ("diagnostics", "known")
    if not source.is_measured(results) or (of_matrix and not has_scores(results, parts)):
        return NAN
    number = entry.of(*source.arguments(results, parts))
    # Averages keep the unit of their quantity: a mean loss stays in bits.
    return sign(parts.quantity) * number if entry.better == "value" else number


def has_scores(results: Results, name: Name) -> bool:
    """Did the run measure this quantity in this mode?"""
    measured = name.quantity == "regret" or name.quantity in results.quantities
    return measured and (name.mode in ("fast_gain", "split") or name.mode in results.modes)


def metrics(results: Results) -> dict[str, float]:
    """Every metric of a run by its name."""
    return {name: metric(results, name) for name in names(results)}


def why(results: Results, name: str) -> str:
    """The reason why `metric(results, name)` is NaN."""
    return why_nan(results, Name.of(name), find(name))


def undefined(results: Results, values: Mapping[str, float]) -> dict[str, str]:
    """The reasons for those of `values` that are NaN."""
    # Few sources know the entropy of their tasks: regret needs no excuse.
    missing = [name for name, value in values.items() if math.isnan(value) and find(name).needs != "regret"]
    return {name: why(results, name) for name in missing}


def after_each_row(results: Results, name: str) -> list[float]:
    """A metric of R as it stands in each row, over the tasks learned by then; or a diagnostic.

    In `fast_gain` the metric is that of the difference between the mode in use and mode slow. Every
    row is NaN where the run did not measure the quantity in this mode.
    """
    parts = Name.of(name)
    diagnostic = _of_known_set(parts) or _table(parts).get(parts.metric)
    if diagnostic and diagnostic.needs == "diagnostics":
        return layer_means(results, parts)
    # Any metric of R can be followed, also one that fast_gain does not report for the whole stream.
    entry, at = METRICS[parts.metric], results.learned_at
    needs: Need = "gain" if parts.mode == "fast_gain" else entry.needs
    if not (SOURCES[needs].is_measured(results) and has_scores(results, parts)):
        return [NAN] * (results.phases + 1)
    if parts.mode == "fast_gain":
        slow, used, _ = SOURCES["gain"].arguments(results, parts)
        return along(entry.of, used - slow, at)
    values = along(entry.of, results.oriented(parts.mode, parts.quantity), at)
    return [sign(parts.quantity) * value for value in values] if entry.better == "value" else values


def metrics_of_rows() -> list[str]:
    """The metrics that `after_each_row` follows: those that need nothing but R."""
    return _needing("R")


def better(name: str) -> int:
    """+1 where a higher value is better, -1 where a lower one is."""
    direction = find(name).better
    return sign(Name.of(name).quantity) if direction == "value" else 1 if direction in ("gain", "more") else -1


def is_judged(name: str) -> bool:
    """Is one value better than another at all?"""
    return find(name).better != "neither"


def is_signed(name: str) -> bool:
    """Does zero mean no effect, so that an interval without zero shows one?"""
    return find(name).better in ("gain", "harm")


def unit_of(name: str) -> str:
    """The unit of a metric, such as `bits per token`."""
    template = find(name).unit
    return template.format(quantity_of(Name.of(name).quantity).unit) if "{}" in template else template


def label(name: str) -> str:
    """What people call a metric, and which sign is harm where zero means no effect."""
    entry = find(name)
    return f"{entry.label} (+ is {entry.better})" if entry.better in ("gain", "harm") else entry.label


def title(name: str) -> str:
    """The label of a metric alone, with the quantity that an average is about."""
    entry = find(name)
    return f"{quantity_of(Name.of(name).quantity).label} {entry.label}" if entry.better == "value" else entry.label


def side(name: str) -> str:
    """Which way is good: `lower is better`, or `+ is harm` where zero means no effect."""
    return f"+ is {find(name).better}" if is_signed(name) else f"{'higher' if better(name) > 0 else 'lower'} is better"
