"""What every sink shows of an event: the values of the time axes, and numbers by name."""

from __future__ import annotations

import math
from collections.abc import Container

from ttt.results.events import Evaluated, Event, Probed, Relearned, Trained

# Other quantities are in metrics.jsonl and results.json; a dashboard shows these.
HEADLINE = (
    "loss", "loss_late", "bits_per_byte", "bits_per_byte_late", "accuracy", "accuracy_late", "exact_match", "exact",
)  # fmt: skip
# A family of metrics, and the axis along which to read it.
FAMILIES = {
    "train": "axis/step",
    "strategy": "axis/step",
    "eval": "axis/task",
    "fast_weights": "axis/task",
    "probe": "axis/task",
    "drift": "axis/task",
    "anytime": "axis/step",
    "relearned": "axis/task",
    "R": "axis/task",
}
AXES = ("axis/step", "axis/tokens", "axis/task", "axis/seconds")


def axis_values(event: Event) -> dict[str, float]:
    """Return where an event stands on each of AXES, counted since the stream began.

    Tasks are counted as they begin; for an evaluation and a relearned task, as they are learned.
    """
    task = event.row if isinstance(event, Evaluated) else event.task + isinstance(event, Relearned)
    return dict(zip(AXES, (event.step, event.tokens, task, event.seconds), strict=True))


def event_numbers(event: Event) -> dict[str, float]:
    """Return the measured numbers of an event, as `family/name` -> value."""
    if isinstance(event, Trained):
        values = {
            "train/loss": event.loss,
            "train/tokens_per_second": event.tokens_per_second,
            "train/lr": event.lr,
        } | {f"strategy/{name}": value for name, value in event.terms.items()}
    elif isinstance(event, Probed):
        values = _probed(event)
    elif isinstance(event, Relearned):
        values = _relearned(event)
    else:
        values = _evaluated(event)
    return finite(values)


def finite(values: dict[str, float]) -> dict[str, float]:
    """Return the values without NaN and infinity, which dashboards draw as holes or refuse."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _shown(quantities: Container[str]) -> list[str]:
    """Return those of HEADLINE that were measured."""
    return [quantity for quantity in HEADLINE if quantity in quantities]


def _evaluated(event: Evaluated) -> dict[str, float]:
    """Return diagnostics, what `_summaries` returns, and scores on what the model knew before."""
    # Diagnostics of the network bring their family; those of an adapter are bare names.
    values = {n if "/" in n else f"fast_weights/{n}": value for n, value in event.diagnostics.items()}
    for mode, scores in event.tasks.items():
        for quantity in _shown(scores):
            values |= {
                f"eval/{mode}/{quantity}/{over}": value for over, value in _summaries(event, mode, quantity).items()
            }
    for name, modes in event.known_sets.items():
        for mode, quantities in modes.items():
            values |= {f"eval/{mode}/{quantity}/known_{name}": score for quantity, (score,) in quantities.items()}
    return values


def _summaries(event: Evaluated, mode: str, quantity: str) -> dict[str, float]:
    """Return scores of the base and the task just learned, and means over tasks."""
    scores = event.tasks[mode][quantity]
    summaries = {}
    # A row has the base only where it holds every task; over fewer tasks there is no mean over all.
    if event.base is not None:
        summaries["base"] = event.base[mode][quantity][0]
        summaries["all"] = sum(scores) / len(scores)
    seen = [score for j, score in zip(event.columns, scores, strict=True) if j in event.seen]
    if event.seen and len(seen) == len(event.seen):
        summaries["seen"] = sum(seen) / len(seen)
    if event.current is not None:
        summaries["current"] = scores[event.columns.index(event.current)]
    return summaries


def _probed(event: Probed) -> dict[str, float]:
    """Return scores of the current task, and means over earlier tasks (`old`) and both (`seen`)."""
    values = {}
    for mode, quantities in event.tasks.items():
        for quantity in _shown(quantities):
            scores = dict(zip(event.columns, quantities[quantity], strict=True))
            old = [scores[j] for j in event.seen if j != event.current]
            values[f"anytime/{mode}/{quantity}/current"] = scores[event.current]
            values[f"anytime/{mode}/{quantity}/seen"] = sum(scores.values()) / len(scores)
            if old:
                values[f"anytime/{mode}/{quantity}/old"] = sum(old) / len(old)
    return values


def _relearned(event: Relearned) -> dict[str, float]:
    """Return the steps that relearning took, and the scores at its end."""
    values: dict[str, float] = {"relearned/steps": event.steps[-1]}
    for mode, quantities in event.scores.items():
        values |= {f"relearned/{mode}/{quantity}": quantities[quantity][-1] for quantity in _shown(quantities)}
    return values
