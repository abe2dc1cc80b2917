"""Whole passes: every piece of a task is read as often as typed, and memory changes no batch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from small_streams import build_stream, source_of
from sources import examples_of
from texts import parts_of, prose

TWO_DIGITS = ("task=split-sequence", "source=digits", "task.num_tasks=2", "task.classes_per_task=2")
# A row is one vector (kept in memory), several examples, or a window of text.
VECTORS = (*TWO_DIGITS, "source.read_as=vectors")
TOKENS = TWO_DIGITS
TEXT = ("task=split-sequence", "source=tables", "task.num_tasks=2")
LENGTHS = {VECTORS: 1, TOKENS: 64, TEXT: 64}


def pieces(source, batch):
    """Return what one pass reads once: the examples of a batch, or its rows."""
    if source.example_len:
        contents, labels = examples_of(batch, source.example_len)
        return [content.tobytes() + label.tobytes() for content, label in zip(contents, labels, strict=True)]
    return [row.numpy().tobytes() for row in batch.tokens_BT]


@pytest.mark.parametrize("passes", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [7, 32])
@pytest.mark.parametrize("typed", [VECTORS, TOKENS, TEXT], ids=["vectors", "examples", "text"])
def test_every_piece_is_read_in_each_pass(typed, batch_size, passes):
    words = (*typed, f"task.batch_size={batch_size}", f"task.steps_per_task={passes}-pass", "task.revisits=1")
    stream, source, length = build_stream(*words), source_of(*words), LENGTHS[typed]
    units = source.units(stream.tasks[0]._views[0].classes, length=length)
    every = Counter(pieces(source, source.take(units[:, None], length=length)))
    size = batch_size * source.per_row(length=length)
    # The first visit to the first task, and its revisit.
    for phase in (stream.phases[0], stream.phases[len(stream.tasks)]):
        batches = [phase.batch(step) for step in range(phase.steps)]
        assert {len(batch.tokens_BT) for batch in batches} == {batch_size}
        read = [piece for batch in batches for piece in pieces(source, batch)]
        # Less than one batch is left out, at the end of all passes.
        assert 0 <= passes * len(units) - len(read) < size
        for start in range(0, len(read), len(units)):
            one_pass = Counter(read[start : start + len(units)])
            assert one_pass <= every
            assert one_pass == every or start + len(units) > len(read)


def test_each_pass_has_an_order_of_its_own():
    phase = build_stream(*VECTORS, "task.batch_size=1", "task.steps_per_task=2-pass").phases[0]
    order = [phase.batch(step).tokens_BT.numpy().tobytes() for step in range(phase.steps)]
    half = len(order) // 2
    assert order[:half] != order[half:]
    assert sorted(order[:half]) == sorted(order[half:])


@pytest.mark.parametrize("batch_size", [7, 200])
def test_batches_from_memory_are_those_made_alone(batch_size):
    typed = (*VECTORS, "task.steps_per_task=3-pass", f"task.batch_size={batch_size}")
    stream, alone = build_stream(*typed), build_stream(*typed)
    for task, other in zip(stream.tasks, alone.tasks, strict=True):
        for step in range(2 * task.visit_steps):
            batch, read = task.batch(step), other._passes.read(step)
            assert torch.equal(batch.tokens_BT, read.tokens_BT)
            assert torch.equal(batch.targets_BT, read.targets_BT)


def test_a_batch_may_be_larger_than_a_pass():
    typed = (*VECTORS, "task.batch_size=400")
    with pytest.raises(ValueError, match=r"^task\.batch_size=400: '.*' has only 2\d\d rows"):
        build_stream(*typed, "task.steps_per_task=one-pass")
    phase = build_stream(*typed, "task.steps_per_task=3-pass").phases[0]
    assert phase.steps == 2
    assert len(phase.batch(1).tokens_BT) == 400


@pytest.fixture(scope="module")
def manuals(tmp_path_factory):
    """The words of a source with classes of 9, 30 and 60 kB."""
    folder = tmp_path_factory.mktemp("manuals")
    for number, words in enumerate((1800, 6000, 12000)):
        (folder / f"m{number}").mkdir()
        (folder / f"m{number}" / "1.txt").write_text(prose(words, seed=number))
    return (
        "task=split-sequence", "source=text", f"source.path={folder}", "task.num_tasks=1", "task.classes_per_task=2",
        "task.held_out=2", "source.least_bytes=20000", "task.steps_per_task=one-pass",
    )  # fmt: skip


def test_one_pass_of_so_many_tokens_reads_no_piece_twice(manuals):
    """Every task reads the first tokens of its classes, as many of each, each once."""
    words = (*manuals, "task.train_tokens=40960", "task.batch_size=4", "task.seq_len=128", "base=none")
    stream, source = build_stream(*words), source_of(*words)
    assert [source.class_name(c) for c in range(len(source.families()))] == ["m1", "m2"]
    (phase,) = stream.phases
    assert phase.steps == 40960 // (4 * 128)
    read = [
        row.tobytes() for step in range(phase.steps) for row in phase.batch(step).tokens_BT.numpy().astype(np.uint8)
    ]
    first = [train.tobytes()[:20480] for train, _ in parts_of(source)]
    assert sorted(read) == sorted(text[i : i + 128] for text in first for i in range(0, 20480, 128))
    assert len(set(read)) == len(read)


def test_a_class_with_too_little_text_is_named_with_its_bytes(manuals):
    with pytest.raises(
        ValueError, match=r"^task\.train_tokens=100000: 'm\d' has only (\d+) tokens \(\1 bytes\).*50000"
    ):
        build_stream(*manuals, "task.train_tokens=100000", "task.seq_len=100")
    with pytest.raises(ValueError, match=r"^task\.train_tokens=1000: .*one-pass"):
        build_stream("task.train_tokens=1000")


def test_so_many_tokens_of_examples_are_whole_rows():
    phase = build_stream(
        *VECTORS, "task.steps_per_task=one-pass", "task.train_tokens=100", "task.batch_size=10"
    ).phases[0]
    labels = torch.cat([phase.batch(step).targets_BT.flatten() for step in range(phase.steps)])
    assert sorted(Counter(labels.tolist()).values()) == [50, 50]
