"""What every sink shows of an event: the honest axes, and numbers by name. And a run's past, from its journal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ttt.results.events import Evaluated, Event, Probed, Relearned, Trained

HEADLINE = ("loss", "loss_late", "accuracy", "accuracy_late")
# A family of metrics, and the axis along which it is meant to be read.
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
KINDS: dict[str, type[Event]] = {kind.__name__.lower(): kind for kind in (Trained, Evaluated, Probed, Relearned)}


def axes(event: Event) -> dict[str, float]:
    """Optimizer steps, tokens, tasks begun (of an evaluation: learned) and seconds since the stream began."""
    task = event.row if isinstance(event, Evaluated) else event.task + isinstance(event, Relearned)
    return dict(zip(AXES, (event.step, event.tokens, task, event.seconds), strict=True))


def numbers(event: Event) -> dict[str, float]:
    """`family/name` -> value; what was not measured is not there."""
    if isinstance(event, Trained):
        found = {"train/loss": event.loss, "train/tokens_per_second": event.tokens_per_second, "train/lr": event.lr}
        found |= {f"strategy/{name}": value for name, value in event.terms.items()}
    elif isinstance(event, Probed):
        found = _inside(event)
    elif isinstance(event, Relearned):
        found = _relearned(event)
    else:
        found = _evaluation(event)
    return finite(found)


def finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _evaluation(event: Evaluated) -> dict[str, float]:
    """Means over tasks learned so far and over all, the task just learned, and the base."""
    # What an adapter says of itself has no family.
    found = {n if "/" in n else f"fast_weights/{n}": value for n, value in event.diagnostics.items()}
    for mode, quantities in event.tasks.items():
        for quantity in HEADLINE:
            values = quantities[quantity]
            if event.base is not None:
                # Only in full rows: a mean over what happened to be measured would be no mean over all.
                found[f"eval/{mode}/{quantity}/base"] = event.base[mode][quantity][0]
                found[f"eval/{mode}/{quantity}/all"] = sum(values) / len(values)
            seen = [value for j, value in zip(event.columns, values, strict=True) if j in event.seen]
            if event.seen and len(seen) == len(event.seen):
                found[f"eval/{mode}/{quantity}/seen"] = sum(seen) / len(seen)
            if event.current is not None:
                found[f"eval/{mode}/{quantity}/current"] = values[event.columns.index(event.current)]
    return found


def _inside(event: Probed) -> dict[str, float]:
    """Means over the tasks learned before and over these with the current one, and the current one."""
    found = {}
    for mode, quantities in event.tasks.items():
        for quantity in HEADLINE:
            values = dict(zip(event.columns, quantities[quantity], strict=True))
            old = [values[j] for j in event.seen if j != event.current]
            found[f"anytime/{mode}/{quantity}/current"] = values[event.current]
            found[f"anytime/{mode}/{quantity}/seen"] = sum(values.values()) / len(values)
            if old:
                found[f"anytime/{mode}/{quantity}/old"] = sum(old) / len(old)
    return found


def _relearned(event: Relearned) -> dict[str, float]:
    """How long it took, and where that led."""
    found: dict[str, float] = {"relearned/steps": event.steps[-1]}
    for mode, quantities in event.scores.items():
        found |= {f"relearned/{mode}/{quantity}": quantities[quantity][-1] for quantity in HEADLINE}
    return found


def past(journal: Path) -> Iterator[Event]:
    """The events in metrics.jsonl, in order: what a resumed run has behind it."""
    for line in journal.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        kind = KINDS[content.pop("event")]
        # Of an evaluation, these may really be none.
        may_miss = ("current", "base", "profile") if kind is Evaluated else ()
        optional = {key: None for key in may_miss if content[key] is None}
        yield kind(**(_measured(content) | optional))


def _measured(content: Any) -> Any:
    """The inverse of `ttt.storage.journal.plain`: null is NaN again."""
    if isinstance(content, dict):
        return {key: _measured(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_measured(value) for value in content]
    return math.nan if content is None else content
