"""Tasks relearned after the stream: where that begins, and when it stops."""

from __future__ import annotations

from assembling import assembled, without
from settings import MLP
from streams import Streamed

from ttt.results import catalogue
from ttt.results.events import Relearned


def test_relearning_begins_where_the_stream_ended_and_stops_when_a_task_is_back():
    forgets = [
        *without(MLP, "task"),
        "task=split-sequence",
        "task.scenario=class",
        "task.classes_per_task=2",
        "task.num_tasks=4",
        "task.steps_per_task=10",
        "task.eval_sequences=all",
        "optimizer.lr=0.1",
    ]
    run = Streamed(assembled(*forgets, "eval.anytime=2", "eval.savings=true"))
    results, modes = run.results, run.results.modes
    assert [record["task"] for record in results.relearned] == [0, 1, 2, 3]
    for record in results.relearned:
        for mode in modes:
            assert record["scores"][mode]["loss"][0] == results.matrix(mode, "loss")[-1, record["task"]]
    # The last task was just learned: nothing is to be relearned. The first was forgotten.
    assert results.relearned[3]["steps"] == [0]
    assert catalogue.metric(results, "slow/loss/forgetting_at_learn") > 0.05
    assert results.relearned[0]["steps"][:2] == [0, 2]
    assert results.relearned[0]["scores"]["slow"]["loss"][-1] < results.relearned[0]["scores"]["slow"]["loss"][0]
    assert all(max(record["steps"]) <= 10 for record in results.relearned)
    events = [event for event in run.events if isinstance(event, Relearned)]
    assert [event.steps for event in events] == [record["steps"] for record in results.relearned]
    assert catalogue.metric(results, "slow/loss/savings_slow") <= 1
