"""What a run tells its observers. Frozen: observers only read.

Every event carries the honest time axes since the stream began: `step` (batches, several of which
share an optimizer step if optimizer.slow_every > 1), tokens and seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ttt.config.kinds import mismatch
from ttt.results.scores import Scores


@dataclass(frozen=True)
class Trained:
    """Some batches of task `task`, from 1; task 0 is the base.

    `loss`: bits per token, the mean since the last event. `lr`: the slow learning rate now.
    `terms`: what the strategy watches, such as its penalty.
    """

    task: int
    task_name: str
    task_step: int
    task_steps: int
    step: int
    tokens: int
    seconds: float
    tokens_per_second: float
    loss: float
    lr: float = float("nan")
    terms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluated:
    """Row `row` of R: the tasks in `columns` (from 0) after phase `row`, and the base.

    Row 0 is measured before the stream. `current`: the task that was just learned. `seen`: all
    tasks that were learned by then. `profile`: for each of `columns` the loss along the context in
    mode fast; None without fast weights. `known_sets`: scores on what the model knew before, by
    the name of each set; empty where none was measured.
    """

    row: int
    columns: list[int]
    current: int | None
    seen: list[int]
    step: int
    tokens: int
    seconds: float
    tasks: Scores
    base: Scores | None
    diagnostics: dict[str, float] = field(default_factory=dict)
    profile: list[list[float]] | None = None
    known_sets: dict[str, Scores] = field(default_factory=dict)


@dataclass(frozen=True)
class Probed:
    """An evaluation inside phase `task` (from 1), after `task_step` of its steps.

    `columns`: the tasks in `seen`, which were learned before, and `current`.
    """

    task: int
    task_step: int
    columns: list[int]
    current: int
    seen: list[int]
    step: int
    tokens: int
    seconds: float
    tasks: Scores


@dataclass(frozen=True)
class Relearned:
    """Task `task` (from 0) learned once more on a copy: `scores` after each number of `steps`.

    `step`, `tokens` and `seconds` are those of the stream, which stood still meanwhile.
    """

    task: int
    steps: list[int]
    scores: Scores
    step: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Waiting:
    """Another run trains the base that this run needs too. Not an `Event`: nothing was measured."""


@dataclass(frozen=True)
class Outdated:
    """The base that comes with ttt is not what this code trains; it is trained. Not an `Event`."""


@dataclass(frozen=True)
class Damaged:
    """The base in the cache cannot be used, for a reason; it is trained anew. Not an `Event`."""

    reason: str


Notice = Waiting | Outdated | Damaged
Event = Trained | Evaluated | Probed | Relearned


class Observer(Protocol):
    def __call__(self, event: Event) -> None: ...


KINDS: dict[str, type[Event]] = {kind.__name__.lower(): kind for kind in (Trained, Evaluated, Probed, Relearned)}
# In these fields null says that there is none; in all others it is a number that was not measured.
OPTIONAL = ("current", "base", "profile")


def as_record(event: Event) -> dict[str, Any]:
    """Return the fields of an event with its kind as `event`: a line of metrics.jsonl."""
    return {"event": type(event).__name__.lower(), **asdict(event)}


def fault_of(record: Mapping[str, Any]) -> str:
    """What is wrong with a line of metrics.jsonl; empty for one that `as_record` wrote."""
    kind = record.get("event")
    if not isinstance(kind, str) or kind not in KINDS:
        return f"is no event (one of {', '.join(KINDS)})"
    return mismatch(record, KINDS[kind])


def from_record(record: Mapping[str, Any]) -> Event:
    """Return the event of a line of metrics.jsonl, with NaN where JSON has null."""
    # JSON has no NaN: null is either a number that was not measured, or a field without a value.
    values: dict[str, Any] = {
        name: None if value is None and name in OPTIONAL else _with_nan(value)
        for name, value in record.items()
        if name != "event"
    }
    return KINDS[record["event"]](**values)


def _with_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _with_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_nan(value) for value in content]
    return math.nan if content is None else content
