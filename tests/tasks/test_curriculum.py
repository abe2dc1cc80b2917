"""task=curriculum: rows that grow at equal tokens in a batch, and classes that it does not read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_streams import build_stream, shared_stream, source_of

from ttt.config.build import build
from ttt.run.compose import compose_run

ONE = ("task=curriculum", "source=code", "task.num_tasks=1")


@pytest.fixture(scope="module")
def settings():
    # Drawn once before: what it loads must not count as time of an example.
    build_stream("task=curriculum", "source=recall", "task.num_tasks=1")
    return build(compose_run(["task=curriculum"])["task"], group="task", given={}, trusted=[])


@given(
    factors=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    last=st.integers(1, 2),
    steps=st.integers(4, 9),
    rows=st.integers(1, 3),
)
def test_a_batch_has_as_many_tokens_whatever_its_rows(settings, factors, last, steps, rows):
    lengths = (4 * np.cumprod(factors)).tolist()
    sizes = {"seq_len": lengths[-1] * last, "steps_per_task": steps, "batch_size": rows, "lengths": lengths}
    stream = replace(settings, **sizes).build(source_of("source=recall"), seed=0, base_seed=0)
    assert stream.steps == steps
    shares = [phase.steps for phase in stream.phases]
    assert max(shares) - min(shares) <= 1
    for phase, length in zip(stream.phases, lengths, strict=True):
        assert phase.batch(0).tokens_BT.shape == (rows * lengths[-1] * last // length, length)
    assert stream.tasks[0].evaluation().tokens_BT.shape[1] == lengths[-1] * last


def test_one_task_is_measured_after_each_length():
    stream = build_stream(*ONE, "task.lengths=[16,16,64]")
    assert [phase.task for phase in stream.phases] == [0, 0, 0]
    assert len(stream.tasks) == 1
    first, second, _ = (phase.batch(0).tokens_BT for phase in stream.phases)
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_the_tasks_of_a_split_are_not_read():
    """With one base.seed, what split-sequence keeps for its tasks is what this stream leaves out."""
    source = source_of(*ONE)
    everything = {c for family in source.families() for c in family}
    for base_seed in (0, 1):
        curriculum = build_stream(*ONE, base_seed=base_seed)
        split = build_stream("task=split-sequence", "source=code", base_seed=base_seed)
        (view,), tasks = curriculum.tasks[0]._views, {int(c) for task in split.tasks for c in task._views[0].classes}
        assert tasks
        assert not tasks & set(view.classes.tolist())
    (view,) = shared_stream(*ONE, "task.held_out=0").tasks[0]._views
    assert set(view.classes.tolist()) == everything


@pytest.mark.parametrize(
    "word",
    [
        "task.lengths=[16,48]", "task.lengths=[64,32]", "task.lengths=[]", "task.lengths=[1]", "task.lengths=[48]",
        "task.steps_per_task=one-pass", "task.num_tasks=2", "task.revisits=1", "task.blur=0.1", "task.examples=2",
    ],
)  # fmt: skip
def test_what_makes_no_curriculum_is_refused_by_name(word):
    with pytest.raises(ValueError, match=rf"^{word.partition('=')[0]}="):
        build_stream(*ONE, word)
    with pytest.raises(ValueError, match=r"^task.steps_per_task=1: "):
        build_stream(*ONE, "task.steps_per_task=1", "task.lengths=[32,64]")
