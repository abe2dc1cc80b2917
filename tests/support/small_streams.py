"""Small streams for tests, cut as a user would type them."""

from __future__ import annotations

import functools

from sources import shared_source

from ttt.config.build import build
from ttt.run.compose import compose_run
from ttt.stream import Stream

SIZES = ("task.num_tasks=4", "task.seq_len=64", "task.batch_size=3", "task.steps_per_task=5", "task.eval_sequences=4")


def build_stream(*typed: str, seed: int = 0, base_seed: int = 0) -> Stream:
    """Cut a new stream by SIZES and what is typed; its source is shared among tests."""
    task = build(_task_config(typed), group="task", given={}, trusted=[])
    return task.build(source_of(*typed), seed=seed, base_seed=base_seed)


# Content is a pure function of its key, so that tests which only read can share a stream.
shared_stream = functools.cache(build_stream)


def source_of(*typed: str):
    """Return the source of a stream."""
    return shared_source(*(word for word in typed if word.startswith("source")))


@functools.cache
def _task_config(typed):
    return compose_run((*SIZES, *typed))["task"]
