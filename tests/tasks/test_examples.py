"""Labelled examples: packing by hand, train and eval parts, labels that only content tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import build_source, contents, examples_of, shared_source, table_of

from ttt.stream import IGNORE
from ttt.tasks.machinery.examples import Examples, Labelled

ALL = np.arange(10)
SOURCES = ("source=digits", "source=mnist")
TWINS = "left out of eval, equal to a train example"


@dataclass(kw_only=True, eq=False)
class Tiny(Examples):
    """A source of two tokens per example."""

    table: Labelled

    def read(self) -> Labelled:
        return self.table

    def show(self, tokens):
        return " ".join(map(str, tokens))


def tiny(tokens, classes, *, is_eval=None):
    table = Labelled(np.array(tokens), np.array(classes), ["a", "b"], 10, is_eval)
    return Tiny(name="tiny", eval_share=0.5, table=table)


def test_packing_by_hand():
    source = tiny([[0, 1], [2, 3], [4, 5], [6, 7]], [0, 0, 1, 1])
    batch = source.take(np.array([[2, 0]]), length=5)
    assert batch.tokens_BT.tolist() == [[4, 5, 11, 0, 1]]
    assert batch.targets_BT.tolist() == [[IGNORE, 11, IGNORE, IGNORE, 10]]
    assert batch.segment_BT.tolist() == [[0, 0, 0, 0, 0]]
    assert [source.per_row(length=n) for n in (2, 4, 5, 7, 8)] == [1, 1, 2, 2, 3]
    assert (source.vocab_size, source.example_len) == (12, 2)
    assert (source.symbols, source.labels) == (range(10), range(10, 12))


@settings(deadline=None)
@given(length=st.integers(2, 40), rows=st.integers(1, 6), seed=st.integers(0, 9))
def test_a_row_fits_and_only_labels_are_scored(length, rows, seed):
    source = tiny([[0, 1], [2, 3], [4, 5], [6, 7]], [0, 0, 1, 1])
    classes = np.array([1, 0])
    for batch in (
        source.draw(classes, rows=rows, length=length, rng=np.random.default_rng(seed)),
        source.evaluation(classes, rows=rows, length=length),
    ):
        per_row = source.per_row(length=length)
        assert batch.tokens_BT.shape == (rows, 3 * per_row - 1)
        assert batch.tokens_BT.shape[1] <= length
        scored = batch.targets_BT != IGNORE
        assert scored.sum() == rows * per_row
        assert (batch.targets_BT[scored] >= 10).all()
        # The label of every example but the last is also the next token.
        assert (batch.targets_BT[:, :-1][~scored[:, :-1]] == IGNORE).all()
        assert (batch.tokens_BT[:, 1:][scored[:, :-1]] == batch.targets_BT[:, :-1][scored[:, :-1]]).all()


@pytest.mark.parametrize("typed", SOURCES)
def test_content_is_a_pure_function(typed):
    """A source that is built again draws the same; the order of classes does not matter."""
    source, again = shared_source(typed), build_source(typed)
    assert source.fingerprint == again.fingerprint
    first = source.draw(ALL, rows=3, length=256, rng=np.random.default_rng(5))
    same = again.draw(ALL, rows=3, length=256, rng=np.random.default_rng(5))
    other = again.draw(ALL, rows=3, length=256, rng=np.random.default_rng(6))
    assert all((a == b).all() for a, b in zip(first[:3], same[:3], strict=True))
    assert not (first.tokens_BT == other.tokens_BT).all()
    evals = [source.evaluation(ALL, rows=4, length=256), again.evaluation(ALL[::-1], rows=4, length=256)]
    assert (evals[0].tokens_BT == evals[1].tokens_BT).all()
    assert np.isnan(source.entropy(ALL))
    assert [source.class_name(c) for (c,) in source.families()] == [f"digit {c}" for c in range(10)]


@pytest.mark.parametrize(("typed", "example_len"), [("source=digits", 16), ("source=mnist", 49)])
def test_sizes_are_what_the_yaml_states(typed, example_len):
    source = shared_source(typed)
    assert (source.example_len, source.symbols, source.labels) == (example_len, range(256), range(256, 266))


def test_the_split_is_part_of_the_fingerprint():
    prints = {build_source("source=digits", **changes).fingerprint
              for changes in ({}, {"eval_share": 0.21}, {"eval_share": 0.3}, {"levels": 3})}  # fmt: skip
    assert len(prints) == 4


@pytest.mark.parametrize(
    "typed",
    [
        (),
        ("source.levels=2",),
        ("source.levels=3",),
        ("source.side=7", "source.patch=1"),
        ("source.side=7", "source.patch=1", "source.levels=2"),
    ],
)
def test_no_content_stands_in_both_parts(typed):
    source = shared_source("source=mnist", *typed)
    assert not contents(source, source._train) & contents(source, source._eval)
    assert source.rows["eval examples"] + source.rows.get(TWINS, 0) == 2000
    # Small images with few levels do coincide.
    if "source.side=7" in typed:
        assert source.rows[TWINS] > 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=8, max_size=40), st.randoms())
def test_twins_are_left_out_of_eval(pairs, random):
    tokens = np.array([[a, a] for a, _ in pairs])
    classes = np.array([c for _, c in pairs])
    is_eval = np.array([random.random() < 0.5 for _ in pairs])
    train = {row.tobytes() for row in tokens[~is_eval]}
    is_fresh = np.array([is_eval[n] and row.tobytes() not in train for n, row in enumerate(tokens)])
    if not all((classes[part] == c).any() for part in (~is_eval, is_fresh) for c in (0, 1)):
        with pytest.raises(ValueError, match=r"^source\.eval_share=0\.5: '[ab]' of tiny has no (train|eval) example"):
            tiny(tokens, classes, is_eval=is_eval)
        return
    source = tiny(tokens, classes, is_eval=is_eval)
    assert not contents(source, source._train) & contents(source, source._eval)
    assert source.rows.get(TWINS, 0) == is_eval.sum() - is_fresh.sum()


@pytest.mark.parametrize("typed", SOURCES)
@pytest.mark.parametrize("classes", [[3], [0, 1, 2, 3, 4], list(range(10))])
def test_draws_are_train_and_evaluation_is_eval(typed, classes):
    source, classes = shared_source(typed), np.array(classes)
    batch = source.draw(classes, rows=20, length=256, rng=np.random.default_rng(0))
    drawn, labels = examples_of(batch, source.example_len)
    train = contents(source, [source._train[c] for c in classes])
    assert {row.astype(np.int32).tobytes() for row in drawn} <= train
    assert set(labels - source.labels.start) <= set(classes)
    shown, labels = examples_of(source.evaluation(classes, rows=20, length=256), source.example_len)
    held_out = contents(source, [source._eval[c] for c in classes])
    assert {row.astype(np.int32).tobytes() for row in shown} <= held_out
    # The counts of any two classes differ by at most one example.
    counts = np.bincount(labels - source.labels.start, minlength=10)[classes]
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == len(labels)


def test_evaluation_covers_evenly_and_repeats_when_it_must():
    source = shared_source("source=digits")
    size = len(source._eval[3])
    once, _ = examples_of(source.evaluation(np.array([3]), rows=size, length=16), 16)
    assert len(np.unique(once, axis=0)) == len(contents(source, [source._eval[3]]))
    twice, _ = examples_of(source.evaluation(np.array([3]), rows=2 * size, length=16), 16)
    _, counts = np.unique(twice, axis=0, return_counts=True)
    assert counts.min() == 2
    few, labels = examples_of(source.evaluation(ALL, rows=4, length=16), 16)
    assert len(few) == len(set(labels)) == 4


@pytest.mark.parametrize("typed", SOURCES)
def test_a_label_cannot_be_read_off_its_place(typed):
    """All labels are about equally frequent at every place of a row and after every label."""
    source = shared_source(typed)
    batch = source.evaluation(ALL, rows=400, length=5 * (source.example_len + 1) - 1)
    _, labels = examples_of(batch, source.example_len)
    rows = labels.reshape(400, 5) - source.labels.start
    # Four standard deviations of the counts.
    for place in rows.T:
        assert (np.abs(np.bincount(place, minlength=10) - 40) < 4 * 6).all()
    steps = np.bincount((rows[:, 1:] - rows[:, :-1]).ravel() % 10, minlength=10)
    assert (np.abs(steps - 160) < 4 * 12).all()


@pytest.mark.parametrize("typed", SOURCES)
def test_one_pass_reads_every_train_example_once(typed):
    source, classes = shared_source(typed), np.array([7, 2])
    units = source.units(classes, length=256)
    per_row = source.per_row(length=256)
    whole = units[: len(units) // per_row * per_row].reshape(-1, per_row)
    read = np.column_stack(examples_of(source.take(whole, length=256), source.example_len))
    expected = table_of(source)[np.sort(whole.ravel())]
    assert sorted(map(tuple, read.tolist())) == sorted(map(tuple, expected.tolist()))
    assert len(np.unique(units)) == len(units) == sum(len(source._train[c]) for c in classes)
    assert set(table_of(source)[units, -1] - source.labels.start) == {7, 2}


def test_a_row_too_short_for_an_example_is_refused():
    with pytest.raises(ValueError, match=r"^task\.seq_len=15: .*source=digits.*16 tokens"):
        shared_source("source=digits").draw(ALL, rows=1, length=15, rng=np.random.default_rng(0))
