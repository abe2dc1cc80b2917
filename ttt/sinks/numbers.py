"""What every sink shows of an event: the honest axes, and numbers by name. And a run's past, from its journal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ttt.events import Evaluated, Event, Trained

HEADLINE = ("loss", "loss_late", "accuracy", "accuracy_late")
# A family of metrics, and the axis along which it is meant to be read.
FAMILIES = {
    "train": "axis/step",
    "strategy": "axis/step",
    "eval": "axis/task",
    "fast_weights": "axis/task",
    "R": "axis/task",
}
AXES = ("axis/step", "axis/tokens", "axis/task", "axis/seconds")


def axes(event: Event) -> dict[str, float]:
    """Optimizer steps, tokens, tasks begun (of an evaluation: learned) and seconds since the stream began."""
    task = event.task if isinstance(event, Trained) else event.row
    return dict(zip(AXES, (event.step, event.tokens, task, event.seconds), strict=True))


def numbers(event: Event) -> dict[str, float]:
    """`family/name` -> value; what was not measured is not there."""
    if isinstance(event, Trained):
        found = {"train/loss": event.loss, "train/tokens_per_second": event.tokens_per_second, "train/lr": event.lr}
        found |= {f"strategy/{name}": value for name, value in event.terms.items()}
    else:
        found = _evaluation(event)
    return finite(found)


def finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _evaluation(event: Evaluated) -> dict[str, float]:
    """Means over tasks learned so far and over all, the task just learned, and the base."""
    found = {f"fast_weights/{name}": value for name, value in event.diagnostics.items()}
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


def past(journal: Path) -> Iterator[Event]:
    """The events in metrics.jsonl, in order: what a resumed run has behind it."""
    for line in journal.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        kind = {"trained": Trained, "evaluated": Evaluated}[content.pop("event")]
        # Of an evaluation, these may really be none.
        optional = {key: None for key in ("current", "base") if kind is Evaluated and content[key] is None}
        yield kind(**(_measured(content) | optional))


def _measured(content: Any) -> Any:
    """The inverse of `ttt.journal.plain`: null is NaN again."""
    if isinstance(content, dict):
        return {key: _measured(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_measured(value) for value in content]
    return math.nan if content is None else content
