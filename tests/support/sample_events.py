"""Events of an invented stream of two tasks, of which the first is learned in nine steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from ttt.results.events import Evaluated, Event, Trained
from ttt.results.scores import QUANTITIES
from ttt.storage.journal import Journal


def trained(step: int) -> Trained:
    return Trained(
        task=1,
        task_name="a",
        task_step=step,
        task_steps=9,
        step=step,
        tokens=32 * step,
        seconds=0.5 * step,
        tokens_per_second=64.0,
        loss=5.0 - step / 7,
    )


def evaluated(row: int, *, base: bool) -> Evaluated:
    """A row of R; late accuracy of the second task was not measured."""
    scores = {q: [1.5 + row, math.nan if q == "accuracy_late" else 2.5] for q in QUANTITIES}
    return Evaluated(
        row=row,
        columns=[0, 1],
        current=row - 1 if row else None,
        seen=list(range(row)),
        step=9 * row,
        tokens=288 * row,
        seconds=4.5 * row,
        tasks={"slow": scores, "fast": scores},
        base={"slow": scores, "fast": scores} if base else None,
        diagnostics={"norm": 0.25},
    )


EVENTS = [evaluated(0, base=True), *map(trained, range(1, 10)), evaluated(1, base=False)]


def write_journal(path: Path, events: Iterable[Event]) -> None:
    with closing(Journal(path)) as journal:
        for event in events:
            journal(event)
