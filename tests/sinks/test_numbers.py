"""Which numbers sinks show of an event, and events as lines of metrics.jsonl and back."""

from __future__ import annotations

import math

from sample_events import EVENTS, write_journal

from ttt.results.events import Probed, Relearned, from_record
from ttt.results.scores import QUANTITIES
from ttt.sinks.numbers import event_numbers
from ttt.storage.journal import read


def test_the_journal_gives_back_every_event(tmp_path):
    scores = {"fast": {quantity: [0.5, math.nan] for quantity in QUANTITIES}}
    axes = {"step": 9, "tokens": 288, "seconds": 4.5}
    probed = Probed(task=2, task_step=3, columns=[0, 1], current=1, seen=[0], tasks=scores, **axes)
    events = [*EVENTS, probed, Relearned(task=1, steps=[0, 3], scores=scores, **axes)]
    write_journal(tmp_path / "metrics.jsonl", events)
    # Compared as text, because NaN equals nothing.
    assert repr([from_record(record) for record in read(tmp_path / "metrics.jsonl")]) == repr(events)


def test_what_was_not_measured_is_not_shown():
    shown = event_numbers(EVENTS[-1])
    assert shown["eval/fast/accuracy/current"] == 2.5
    assert shown["eval/fast/accuracy/seen"] == 2.5
    assert shown["fast_weights/norm"] == 0.25
    assert "eval/fast/accuracy_late/current" in shown
    assert "eval/fast/loss/all" not in shown
    partly = event_numbers(EVENTS[0])
    assert partly["eval/fast/loss/all"] == 2.0
    assert "eval/fast/accuracy_late/all" not in partly
    assert all(math.isfinite(value) for value in (*shown.values(), *partly.values()))
