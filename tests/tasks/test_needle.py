"""`source=needle`: the answer stands in the text once, at its depth, and nowhere in the control."""

from __future__ import annotations

import numpy as np
import pytest
from sources import build_source

from ttt.stream import IGNORE

DEPTHS = 5


def text(source, tokens):
    return source.show(np.asarray(tokens))


def batches(source, depth, length=600):
    classes = np.array([depth])
    yield source.evaluation(classes, rows=6, length=length)
    yield source.draw(classes, rows=6, length=length, rng=np.random.default_rng(0))


@pytest.mark.parametrize("depth", range(DEPTHS))
def test_the_answer_stands_at_its_depth(depth):
    source = build_source("source=needle")
    for batch in batches(source, depth):
        for tokens_T, targets_T in zip(batch.tokens_BT, batch.targets_BT, strict=True):
            scored = targets_T != IGNORE
            answer = text(source, targets_T[scored])
            assert len(answer) == len(" 1234567.")
            # All scored tokens stand at the end, and each target is the token after it.
            assert scored[-int(scored.sum()) :].all()
            assert (tokens_T[1:][scored[:-1]] == targets_T[:-1][scored[:-1]]).all()
            row = text(source, tokens_T)
            # Once in the needle; the beginning of the answer behind the question is that of the row.
            assert row.count(answer) == 1
            # Needle, question and answer take about 100 letters, and the haystack all others.
            share = row.index(" The secret number") / (len(row) - 100)
            assert depth - 0.1 <= share * DEPTHS <= depth + 1.1


def test_the_control_has_no_answer():
    source = build_source("source=needle", present=False)
    for batch in batches(source, 2):
        for tokens_T, targets_T in zip(batch.tokens_BT, batch.targets_BT, strict=True):
            assert text(source, targets_T[targets_T != IGNORE]) not in text(source, tokens_T)


def test_rows_are_fixed_and_short_ones_refused():
    source = build_source("source=needle")
    first, second = (source.evaluation(np.arange(DEPTHS), rows=10, length=400) for _ in range(2))
    assert (first.tokens_BT == second.tokens_BT).all()
    with pytest.raises(ValueError, match=r"task.seq_len=100"):
        source.evaluation(np.arange(DEPTHS), rows=10, length=100)
