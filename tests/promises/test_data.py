"""Promises of tasks and sources catch data that depend on more than their key, and say where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_streams import build_stream
from sources import build_source

from ttt.promises.data import misshapen
from ttt.promises.sources import PROMISES as OF_SOURCES
from ttt.promises.sources import (
    SourceCase,
    attributes_fit,
    families_part,
    follows_generator,
    in_range,
    passes,
    source_parts,
    stable,
)
from ttt.promises.tasks import PROMISES as OF_TASKS
from ttt.promises.tasks import (
    TaskCase,
    pure,
    seeds_differ,
    stream_shapes,
    task_fingerprints,
    task_parts,
    uses_no_chance,
)
from ttt.stream import Batch


class Altered:
    """A source or task with some attributes replaced."""

    def __init__(self, base, **changes):
        self._base, self._changes = base, changes

    def __getattr__(self, name):
        return self._changes[name] if name in self._changes else getattr(self._base, name)


def cut(seed):
    return build_stream("source=recall", "task.num_tasks=3", seed=seed)


def with_phase(batch):
    """A stream whose first phase gives other batches."""

    def altered(seed):
        stream = cut(seed)
        first = replace(stream.phases[0], batch=lambda step: batch(stream, step))
        return replace(stream, phases=[first, *stream.phases[1:]])

    return altered


def counting_batch():
    """Batches that depend on how many were read before."""
    count = iter(range(1000))
    return lambda stream, step: stream.phases[1].batch(next(count))


def noisy(stream, step):
    torch.rand(1)
    return stream.phases[0].batch(step)


def beyond(stream, step):
    batch = stream.phases[0].batch(step)
    return batch._replace(tokens_BT=batch.tokens_BT + 1000)


BROKEN_TASKS = [
    (with_phase(counting_batch()), pure, "backwards"),
    (with_phase(noisy), uses_no_chance, "torch"),
    (with_phase(beyond), stream_shapes, "vocabulary"),
    (lambda seed: cut(0), seeds_differ, "seeds 0 and 1"),
    (with_phase(lambda stream, step: stream.tasks[1].evaluation()), task_parts, "row 0"),
    (
        lambda seed: replace(cut(seed), tasks=[Altered(task, fingerprint="same") for task in cut(seed).tasks]),
        task_fingerprints,
        "one fingerprint",
    ),
    (lambda seed: replace(cut(seed), phases=cut(seed).phases[:-1]), stream_shapes, "no phase teaches task 3"),
]


@pytest.mark.parametrize(("altered", "promise", "where"), BROKEN_TASKS)
def test_a_broken_task_shows_an_example(altered, promise, where):
    ruling = promise(TaskCase(altered))
    assert ruling.holds is False
    assert where in ruling.why


def source_case(**changes):
    return SourceCase(Altered(RECALL, **changes), lambda: build_source("source=recall"), 16)


def examples_case(**changes):
    return SourceCase(Altered(DIGITS, **changes), lambda: DIGITS, 160)


RECALL, DIGITS = build_source("source=recall"), build_source("source=digits")
CHANCE = np.random.default_rng(0)
BROKEN_SOURCES = [
    ({"fingerprint": "of another day"}, stable, "fingerprint"),
    ({"draw": lambda classes, rng, **sizes: RECALL.draw(classes, rng=CHANCE, **sizes)}, follows_generator, "equal"),
    ({"vocab_size": 3}, in_range, "not in the vocabulary, 0 to 2"),
    (
        {"draw": lambda classes, rng, **sizes: RECALL.evaluation(classes, **sizes)},
        source_parts,
        "drawn in training",
    ),
    ({"families": lambda: [[0, 1], [1]]}, families_part, "[0, 1, 1]"),
]


@pytest.mark.parametrize(("changes", "promise", "where"), BROKEN_SOURCES)
def test_a_broken_source_shows_an_example(changes, promise, where):
    ruling = promise(source_case(**changes))
    assert ruling.holds is False
    assert where in ruling.why


BROKEN_EXAMPLES = [
    ({"labels": range(3)}, attributes_fit, "3 for 10 classes"),
    ({"labels": range(900, 910)}, attributes_fit, "900 is not in the vocabulary"),
    ({"symbols": range(-1, 3)}, attributes_fit, "-1 is not in the vocabulary"),
    ({"token_bytes": np.ones(2)}, attributes_fit, "2 numbers for"),
    ({"rows": {"train": "many"}}, attributes_fit, "'many'"),
    ({"entropy": lambda classes: -1.0}, attributes_fit, "-1 bits"),
    ({"units": lambda classes, length: np.zeros(8, int)}, passes, "twice"),
    ({"take": lambda units, length: DIGITS.evaluation(np.arange(4), rows=4, length=length)}, passes, "eval part"),
]


@pytest.mark.parametrize(("changes", "promise", "where"), BROKEN_EXAMPLES)
def test_a_broken_source_of_examples_shows_an_example(changes, promise, where):
    assert promise(examples_case()).holds
    ruling = promise(examples_case(**changes))
    assert ruling.holds is False
    assert where in ruling.why


def test_a_task_that_lacks_a_member_names_it():
    bare = type("Bare", (), {"name": "bare", "batch": None, "evaluation": None, "entropy": 0.0})()
    ruling = stream_shapes(TaskCase(lambda seed: replace(cut(seed), tasks=[bare])))
    assert ruling.holds is False
    assert "Bare, lacks fingerprint" in ruling.why
    assert "returns NoneType" in stream_shapes(TaskCase(lambda seed: None)).why


def test_sound_data_keep_all_promises():
    rulings = [promise(TaskCase(cut)) for promise in OF_TASKS.values()]
    rulings += [promise(source_case()) for promise in OF_SOURCES.values()]
    assert [ruling.why for ruling in rulings if not ruling.holds] == ["its sequences never end"]


def test_a_batch_of_another_shape_is_refused():
    tokens = torch.zeros(2, 4, dtype=torch.long)
    good = Batch(tokens, tokens, tokens)
    assert misshapen(good, vocab=1, length=4) == ""
    assert "longer than 3" in misshapen(good, vocab=1, length=3)
    assert "targets [2, 3]" in misshapen(good._replace(targets_BT=tokens[:, 1:]), vocab=1, length=4)
    assert "int32" in misshapen(good._replace(segment_BT=tokens.int()), vocab=1, length=4)
    assert "no position is scored" in misshapen(good._replace(targets_BT=tokens - 100), vocab=1, length=4)
