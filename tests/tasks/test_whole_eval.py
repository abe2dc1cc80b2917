"""task.eval_sequences=all of running text: every token of an eval part is scored once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_streams import build_stream, source_of
from texts import parts_of

from ttt.stream import IGNORE
from ttt.tasks.machinery.settings import BASE_ROWS
from ttt.tasks.machinery.whole import rows_side_by_side

SPLIT = ("task=split-sequence", "task.num_tasks=2", "task.eval_sequences=all", "task.seq_len=100")


def rows_by_hand(stretches, length):
    """Cut the stretches one token at a time: rows of (token, target) pairs."""
    rows = []
    for stretch in stretches:
        pairs = list(pairwise(stretch))
        rows += [pairs[i : i + length] for i in range(0, len(pairs), length)]
    return rows


def pairs_of(batch):
    """Return the (token, target) pairs that a batch scores, row by row."""
    rows = []
    for tokens, targets, segment in zip(*(x.tolist() for x in batch[:3]), strict=True):
        scored = [target != IGNORE for target in targets]
        # Padding stands behind the text, belongs to no document and holds no token of the text.
        assert scored == sorted(scored, reverse=True)
        assert segment == [0 if is_scored else -1 for is_scored in scored]
        assert not any(token for token, is_scored in zip(tokens, scored, strict=True) if not is_scored)
        rows.append(list(zip(tokens, targets, strict=True))[: sum(scored)])
    return rows


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 12))
def test_rows_are_those_cut_by_hand(sizes, length):
    tokens = np.arange(1, 1 + sum(sizes))
    ends = np.cumsum(sizes)
    batch = rows_side_by_side(tokens, ends - sizes, ends, length=length)
    assert pairs_of(batch) == rows_by_hand(
        [tokens[e - n : e].tolist() for e, n in zip(ends, sizes, strict=True)], length
    )


@pytest.mark.parametrize("name", ["languages", "prose", "tables", "corpora"])
def test_a_task_is_measured_on_its_whole_eval_part(name):
    typed = (*SPLIT, f"source={name}")
    stream, source = build_stream(*typed), source_of(*typed)
    parts = parts_of(source)
    for task in stream.tasks:
        (view,) = task._views
        runs = [run.tolist() for c in view.classes for run in parts[c][1]]
        batch = task.evaluation()
        assert batch.tokens_BT.shape[1] == 100
        assert pairs_of(batch) == rows_by_hand(runs, 100)
        assert torch.equal(batch.tokens_BT, task.evaluation().tokens_BT)
    # A base of hundreds of classes is measured on some rows of them.
    assert len(stream.base.evaluation().tokens_BT) == BASE_ROWS


def test_what_is_measured_is_part_of_a_tasks_fingerprint():
    some, every = (
        build_stream("task=split-sequence", "source=tables", "task.num_tasks=1", f"task.eval_sequences={n}").tasks[0]
        for n in (4, "all")
    )
    assert torch.equal(some.batch(0).tokens_BT, every.batch(0).tokens_BT)
    assert some.fingerprint != every.fingerprint


def test_a_cipher_renames_the_whole_eval_part():
    task = build_stream("task=permuted-sequence", "source=tables", "task.num_tasks=1", "task.eval_sequences=all").tasks[
        0
    ]
    (view,) = task._views
    plain = view.source.whole_evaluation(view.classes, length=64)
    is_scored = plain.targets_BT != IGNORE
    batch, names_V = task.evaluation(), torch.from_numpy(view.names_V)
    assert torch.equal(batch.targets_BT[is_scored], names_V[plain.targets_BT[is_scored]])
    assert torch.equal(batch.targets_BT != IGNORE, is_scored)


@pytest.mark.parametrize(
    "typed", [("source=recall",), ("source=automata",), ("task=recall-sequence", "task.distances=[0]")], ids=" ".join
)
def test_what_has_no_end_is_refused(typed):
    with pytest.raises(ValueError, match=r"^task\.eval_sequences=all: .*give a number$"):
        build_stream("task.eval_sequences=all", *typed)
