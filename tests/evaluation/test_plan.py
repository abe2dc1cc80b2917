"""Which tasks are measured in which row of R."""

from __future__ import annotations

from assembling import assembled, without
from harness import SMALL

from ttt.evaluation.plan import Plan


def test_evaluation_grows_with_the_tasks_not_with_their_square():
    words = without(SMALL, "task.num_tasks", "task.held_out", "task.eval_sequences")
    words += ["base=none", "adapter=none", "task.num_tasks=12", "task.held_out=12", "task.eval_sequences=1"]
    assembly = assembled(*words, "eval.tasks=3")
    rows = [assembly.plan.columns(row, stream=assembly.stream) for row in range(13)]
    assert rows[0] == rows[12] == list(range(12))
    assert rows[1] == [0, 1]
    # The task just learned, the next, and three of those before: the first, the last, one between.
    assert rows[8] == [0, 3, 6, 7, 8]
    assert max(map(len, rows[1:12])) == 5
    thinner = Plan.of(4, stream=assembly.stream, tasks=3)
    counts = [len(thinner.columns(row, stream=assembly.stream)) for row in range(13)]
    assert counts == [12, 2, 2, 2, 5, 2, 2, 2, 5, 2, 2, 2, 12]
    assert [thinner.has_base(row, stream=assembly.stream) for row in range(5)] == [True, False, False, False, True]
