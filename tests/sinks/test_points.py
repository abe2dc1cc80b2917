"""Points inside tasks as sinks show them."""

from __future__ import annotations

import json
from dataclasses import asdict

from ttt.results.events import Probed, Relearned
from ttt.results.rows import plain
from ttt.results.scores import QUANTITIES
from ttt.sinks.numbers import FAMILIES, axis_values, event_numbers


def test_points_are_shown_along_steps():
    scores = {"slow": {q: [1.0, 3.0] for q in QUANTITIES}}
    event = Probed(
        task=2, task_step=5, columns=[0, 1], current=1, seen=[0], step=15, tokens=99, seconds=1.0, tasks=scores
    )
    shown = event_numbers(event)
    assert shown["anytime/slow/loss/current"] == 3
    assert shown["anytime/slow/loss/old"] == 1
    assert shown["anytime/slow/loss/seen"] == 2
    assert axis_values(event) == {"axis/step": 15, "axis/tokens": 99, "axis/task": 2, "axis/seconds": 1.0}
    again = Relearned(task=1, steps=[0, 5], scores=scores, step=30, tokens=9, seconds=2.0)
    assert event_numbers(again)["relearned/steps"] == 5
    assert {name.split("/")[0] for name in (*shown, *event_numbers(again))} <= set(FAMILIES)
    assert json.loads(json.dumps(plain(asdict(event))))["current"] == 1
