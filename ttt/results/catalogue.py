"""Metrics of a run beyond R: by name, value, direction, and why one is NaN. Light: a comparison reads a thousand runs.

    MODE/QUANTITY/plasticity_loss, slope_low, slope_high    learning over the tasks of this run, and its interval
    MODE/QUANTITY/min_acc, gap_depth, lca_10, ...           eval.anytime: between the rows of R (metrics/anytime.py)
    MODE/QUANTITY/savings_slow, savings_slow_censored       eval.savings: tasks learned once more on a copy
    fast/loss/savings_fast, savings_fast_censored           context needed again, from profiles of the loss
    split/QUANTITY/forgetting_slow, ..._read, ..._carried   what slow weights, reading, and the carried state add
                                                            (nothing is written while prompts are read: no ..._read)
    slow/plasticity/erank, carried/plasticity/erank, ...    eval.diagnostics: mean over layers, last row
    MODE/drift/kl_base                                      bits per token from the base, on its own distribution

Names are there only where something was measured for them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ttt.evaluation.relearn import SAVED, SAVED_FAST, saved_again, saved_by_reading
from ttt.metrics.anytime import ANYTIME, LOWER, VALUES, anytime, shots, why_undefined
from ttt.metrics.curves import Curves, Savings, mean_seen
from ttt.metrics.matrix import AVERAGES, Metric, forgetting_at_learn, learning_slope
from ttt.metrics.references import LOWER as REFERENCE_LOWER
from ttt.metrics.references import NOISE
from ttt.metrics.slope import slope_interval
from ttt.metrics.split import fast_share, lost_access, lost_knowledge, parts, plasticity_loss
from ttt.results.scores import sign

if TYPE_CHECKING:
    from ttt.results.results import Results

NAN = float("nan")
LEARNING = ("plasticity_loss", "slope_low", "slope_high")
PARTS: dict[str, Metric] = {"forgetting": forgetting_at_learn, "plasticity": learning_slope}
# Of the diagnostics those of which less is better; of the others more is.
HARMFUL = ("dormant_tau0", "dormant_tau0.1", "dead_zero", "weight_rms", "weight_l2", "over_w0")


def is_known(name: str) -> bool:
    """Is this one of the metrics told here?"""
    mode, quantity, metric = name.split("/")
    told = (*LEARNING, *ANYTIME, *SAVED, *SAVED_FAST)
    return mode == "split" or quantity in ("plasticity", "drift") or metric in told or metric.startswith("lca_")


def better(name: str) -> int:
    """+1 where a higher value of `mode/quantity/metric` is better, -1 where a lower one is; R's own metrics too."""
    mode, quantity, metric = name.split("/")
    if mode == "cost":
        return 1 if metric.endswith("per_second") else -1
    if mode == "fast_gain":
        return -1 if metric == "lost_access" else 1
    if is_known(name):
        return _better(quantity, metric)
    if metric in REFERENCE_LOWER:
        return -1
    if metric in (*AVERAGES, "base_final"):
        return -1 if quantity == "regret" else sign(quantity)
    return -1 if "forgetting" in metric else 1


def _better(quantity: str, metric: str) -> int:
    if quantity == "drift" or (quantity == "plasticity" and metric in HARMFUL):
        return -1
    if quantity == "plasticity":
        return 1
    if metric in VALUES or metric.startswith("lca_"):
        return sign(quantity)
    if metric in LOWER or metric.endswith("_censored"):
        return -1
    return 1 if metric.startswith(("slope", "savings", "windowed_plasticity", "fast_share")) else -1


def names(results: Results) -> list[str]:
    quantities = results.quantities
    found = [f"{mode}/{quantity}/{metric}" for mode in results.modes for quantity in quantities for metric in LEARNING]
    if results.points:
        curved = [quantity for quantity in quantities if not quantity.endswith("_early")]
        told = [*ANYTIME, f"lca_{_shots(results)}", *(SAVED if results.relearned else ())]
        found += [f"{mode}/{quantity}/{metric}" for mode in results.modes for quantity in curved for metric in told]
    if any(row["profile"] for row in results.rows):
        found += [f"fast/loss/{metric}" for metric in SAVED_FAST]
    if "fast" in results.modes:
        found += [f"split/{quantity}/{metric}" for quantity in quantities for metric in _split_names(results)]
    return found + _diagnosed(results)


def value(results: Results, name: str) -> float:
    """NaN where it is undefined, or was not measured."""
    mode, quantity, metric = name.split("/")
    if quantity in ("plasticity", "drift"):
        return (series(results, name) or [NAN])[-1]
    if not results.rows or (mode != "split" and mode not in results.modes):
        return NAN
    if mode == "split":
        return _split(results, quantity, metric)
    if metric in LEARNING:
        a, at = sign(quantity) * results.matrix(mode, quantity), results.learned_at
        if metric == "plasticity_loss":
            return plasticity_loss(a, at)
        return slope_interval(a, at)[1 if metric == "slope_low" else 2]
    if metric in SAVED_FAST:
        return mean_seen(saved_by_reading(results))[SAVED_FAST.index(metric)]
    if not results.points:
        return NAN
    if metric in SAVED:
        return mean_seen(_saved(results, mode, quantity))[SAVED.index(metric)]
    s = sign(quantity) if metric in VALUES or metric.startswith("lca_") else 1
    return s * anytime(metric, curves_of(results, mode, quantity), every=results.every)


def why(results: Results, name: str) -> str:
    """The reason why `value` is NaN."""
    mode, quantity, metric = name.split("/")
    if quantity in ("plasticity", "drift"):
        return "not finite in the last row, or nothing to measure"
    if metric in LEARNING or mode == "split":
        return _why_from_r(results, "slow" if mode == "split" else mode, quantity, metric)
    if metric in SAVED_FAST:
        return "no scored token in the last quarter of the context, or a row before learning is missing"
    curves = curves_of(results, mode, quantity)
    if metric in SAVED:
        found = _saved(results, mode, quantity)
        idle = [one["task"] for one, x in zip(results.relearned, found, strict=True) if math.isnan(x.value)]
        return f"task {idle[0] + 1} had nothing to learn when it was first taught" if idle else "no criterion was met"
    return why_undefined(metric, curves)


def _why_from_r(results: Results, mode: str, quantity: str, metric: str) -> str:
    holes = np.argwhere(np.isnan(results.matrix(mode, quantity)))
    few = len(results.tasks) < (3 if metric in LEARNING or metric.startswith(("plasticity", "fast_share")) else 2)
    if few:
        return f"undefined for {len(results.tasks)} {'task' if len(results.tasks) == 1 else 'tasks'}"
    if metric.startswith("fast_share"):
        harm = "lost no more plasticity" if metric.endswith("plasticity") else "forgot no more"
        return f"the slow weights {harm} than {NOISE}"
    if not len(holes):
        return "undefined"
    return f"task {holes[0][1] + 1} was not measured in row {holes[0][0]} (see eval.every)"


def curves_of(results: Results, mode: str, quantity: str) -> Curves:
    """a_j(n), oriented, over optimizer steps: the rows of R and the points between them."""
    key = (mode, quantity, len(results.rows), len(results.points))
    if key not in results.curves:
        looks = [(row["step"], row["columns"], row["scores"]) for row in results.rows]
        looks += [(point["step"], point["columns"], point["scores"]) for point in results.points]
        values = np.full((len(looks), len(results.tasks)), np.nan)
        looks.sort(key=lambda look: look[0] or 0)
        for i, (_, columns, scores) in enumerate(looks):
            values[i, columns] = scores[mode][quantity]
        ends = [float(row["step"] or 0) for row in results.rows]
        # A point of a phase that did not end yet says nothing of it.
        times = np.array([float(step or 0) for step, _, _ in looks])
        kept = times <= ends[-1]
        taught = [row["current"] for row in results.rows[1:]]
        assert None not in taught
        tasks = [j for j in taught if j is not None]
        results.curves[key] = Curves(times[kept], sign(quantity) * values[kept], np.array(ends), tasks)
    return results.curves[key]


def _shots(results: Results) -> int:
    return shots(curves_of(results, results.modes[0], "loss"), every=results.every)


def _saved(results: Results, mode: str, quantity: str) -> list[Savings]:
    curves = curves_of(results, mode, quantity)
    return [saved_again(curves, one, mode=mode, quantity=quantity) for one in results.relearned]


def _split_names(results: Results) -> list[str]:
    carried = "carried" in results.modes
    reads = results.used == "fast"
    given = ["slow", *(["read"] if reads else []), *(["carried"] if carried else [])]
    found = [f"{harm}_{part}" for harm in PARTS for part in given]
    found += ["lost_knowledge", "lost_access", "fast_share_plasticity"]
    return found + (
        ["lost_knowledge_carried", "lost_access_carried", "fast_share_carried"] if carried and reads else []
    )


def _split(results: Results, quantity: str, metric: str) -> float:
    """Harm is positive everywhere, for plasticity too: parts of plasticity_loss, per task."""
    if metric not in _split_names(results):
        return NAN
    at, used = results.learned_at, results.used
    modes = {mode: sign(quantity) * results.matrix(mode, quantity) for mode in results.modes}
    harm, _, part = metric.rpartition("_")
    if harm in PARTS:
        carried = modes.get("carried") if used == "fast" else None
        found = parts(PARTS[harm], at, slow=modes["slow"], fast=modes[used], carried=carried)
        # What a prompt adds to the slow weights is all that is fast.
        share: float = getattr(found, "read" if part == used else part)
        return -share if harm == "plasticity" else share
    other = modes["carried" if part == "carried" else used]
    if metric == "fast_share_plasticity":
        return fast_share(modes["slow"], other, at, harm=plasticity_loss)
    if metric.startswith("fast_share"):
        return fast_share(modes["slow"], other, at)
    return lost_knowledge(other, at) if "knowledge" in metric else lost_access(modes["slow"], other, at)


def _diagnosed(results: Results) -> list[str]:
    found = dict.fromkeys(_metric_of(key) for row in results.rows for key in row["diagnostics"])
    return [name for name in found if name]


def _metric_of(key: str) -> str:
    """probe/LAYER/KIND -> slow/plasticity/KIND, of fast matrices carried/plasticity/KIND; drift/MODE/KIND."""
    family, _, rest = key.partition("/")
    place, _, kind = rest.rpartition("/")
    if family == "drift":
        return f"{place}/drift/{kind}"
    if family != "probe":
        return ""
    return f"carried/plasticity/{kind.removeprefix('fast_')}" if kind.startswith("fast_") else f"slow/plasticity/{kind}"


def series(results: Results, name: str) -> list[float]:
    """The mean over layers in each row; NaN where one of them is, or there is none."""
    found = []
    for row in results.rows:
        values = [x for key, x in row["diagnostics"].items() if _metric_of(key) == name]
        found.append(sum(values) / len(values) if values else NAN)
    return found
