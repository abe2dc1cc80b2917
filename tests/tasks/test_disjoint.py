"""task.draw=disjoint: no two seeds share a task."""

from __future__ import annotations

import pytest
from small_streams import build_stream

DISJOINT = ("task.draw=disjoint", "source=languages", "task.num_tasks=10")


def classes_of(stream):
    return [tuple(view.classes.tolist()) for task in stream.tasks for view in task._views]


def test_seeds_share_no_task_and_leave_none_out():
    streams = [build_stream(*DISJOINT, seed=seed) for seed in range(8)]
    taken = [classes for stream in streams for classes in classes_of(stream)]
    assert len(taken) == len(set(taken)) == 80
    # Together they are the 80 classes that the base never reads, whichever way they are drawn.
    one = build_stream("source=languages", "task.num_tasks=80")
    assert set(classes_of(one)) == set(taken)
    base = set(streams[0].base._views[0].classes.tolist())
    assert not base & {c for classes in taken for c in classes}
    assert {stream.base.fingerprint for stream in streams} == {one.base.fingerprint}


def test_the_seed_of_the_base_draws_the_blocks():
    first, other = (classes_of(build_stream(*DISJOINT, base_seed=seed)) for seed in (0, 1))
    assert first == classes_of(build_stream(*DISJOINT))
    assert set(first) != set(other)


def test_tasks_of_several_classes_are_blocks_too():
    words = ("task.draw=disjoint", "source=recall", "task.num_tasks=3", "task.classes_per_task=4", "task.held_out=24")
    taken = [c for seed in (0, 1) for classes in classes_of(build_stream(*words, seed=seed)) for c in classes]
    assert len(taken) == len(set(taken)) == 24


@pytest.mark.parametrize("words", [("source=languages",), ("task=drift-sequence", "source=languages")])
def test_a_seed_beyond_the_last_block_is_refused(words):
    typed = (*words, "task.draw=disjoint", "task.num_tasks=30")
    build_stream(*typed, seed=1)
    with pytest.raises(ValueError, match=r"^seed=2: .*task\.draw=disjoint.* 2 seeds.*80 .*30") as error:
        build_stream(*typed, seed=2)
    assert "\n" not in str(error.value)


def test_an_order_of_the_source_has_one_block():
    with pytest.raises(ValueError, match=r"^task\.draw=disjoint: task\.order=source"):
        build_stream("task.draw=disjoint", "task.order=source")
