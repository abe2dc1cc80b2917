"""Streams and sources: pure functions of (seed, task, step), held out from the base, train apart from eval."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from ttt.tasks.languages import DATA, Languages
from ttt.tasks.recall import Recall
from ttt.tasks.split_sequence import SplitSequence

from ttt.stream import IGNORE


@pytest.fixture(scope="module")
def languages(cache):
    return Languages(name="languages", eval_share=0.2, cache_dir=str(cache))


@pytest.fixture(scope="module")
def recall():
    return Recall(name="recall", num_keys=8, num_values=8, num_worlds=100, world_seed=0)


def split(source, *, seed=0, base_seed=0, **options):
    sizes = {"num_tasks": 4, "classes_per_task": 1, "held_out": 20, "seq_len": 32, "batch_size": 3,
             "steps_per_task": 5, "eval_sequences": 4}  # fmt: skip
    return SplitSequence(name="split-sequence", **(sizes | options)).build(source, seed=seed, base_seed=base_seed)


def test_data_is_what_its_readme_says():
    digest = hashlib.sha256(DATA.read_bytes()).hexdigest()
    assert digest in (DATA.parent / "README.md").read_text()


@pytest.mark.parametrize("name", ["languages", "recall"])
def test_content_is_a_pure_function(name, request):
    source = request.getfixturevalue(name)
    one, two = split(source), split(source)
    for a, b in zip([one.base, *one.tasks], [two.base, *two.tasks], strict=True):
        assert (a.name, a.fingerprint) == (b.name, b.fingerprint)
        # In any order, as often as one likes.
        late, early = a.batch(4), a.batch(1)
        assert all((x == y).all() for x, y in zip(b.batch(1), early, strict=True))
        assert all((x == y).all() for x, y in zip(b.batch(4), late, strict=True))
        assert not (late.tokens_BT == early.tokens_BT).all()


@pytest.mark.parametrize("name", ["languages", "recall"])
def test_seeds(name, request):
    """`seed` changes tasks and keeps the base; `base_seed` changes what is held out."""
    source = request.getfixturevalue(name)
    first, other, base = split(source), split(source, seed=1), split(source, base_seed=1)
    assert first.base.fingerprint == other.base.fingerprint != base.base.fingerprint
    assert not {t.fingerprint for t in first.tasks} & {t.fingerprint for t in other.tasks}


def test_no_relative_of_a_task_is_in_the_base(languages):
    family_of = {c: f for f, members in enumerate(languages.families()) for c in members}
    for seed in range(5):
        stream = split(languages, seed=seed, num_tasks=20)
        tasks = [family_of[int(c)] for task in stream.tasks for c in task._classes]
        base = {family_of[int(c)] for c in stream.base._classes}
        assert len(set(tasks)) == 20
        assert not set(tasks) & base
    assert len(split(languages, held_out=80).base._classes) > 400


def test_relatives_are_found(languages):
    names = [sorted(languages.class_name(c).split()[0] for c in family) for family in languages.families()]
    by_code = {code: family for family in names for code in family}
    assert "hrv" in by_code["bos_latn"]
    assert "cmn_hant" in by_code["cmn_hans"]
    assert by_code["eng"] == ["eng"]


def test_train_and_eval_text_do_not_overlap(languages):
    """No eval window stands in the train part, for every language: they lie on two sides of a line break."""
    for c in range(0, len(languages._names), 7):
        start, cut, end = (int(x[c]) for x in (languages._start, languages._cut, languages._end))
        assert start < cut < end
        assert languages._bytes[cut - 1] == ord("\n")
        train = languages._bytes[start:cut].tobytes()
        rows = languages.evaluation(c, count=4, length=200)
        for row in rows.tokens_BT:
            assert bytes(row.tolist()) not in train
        rng = np.random.default_rng(0)
        drawn = languages.draw(np.full(64, c), length=200, rng=rng)
        for row in drawn.tokens_BT:
            assert bytes(row.tolist()) in train


def test_targets_are_the_next_token(languages):
    batch = split(languages).tasks[0].batch(0)
    assert (batch.tokens_BT[:, 1:] == batch.targets_BT[:, :-1]).all()


def test_recall_scores_values_only_and_its_worlds_are_functions(recall):
    batch = split(recall, seq_len=33).tasks[0].batch(0)
    keys, values = batch.tokens_BT[:, 0:-1:2], batch.targets_BT[:, 0:-1:2]
    assert (keys < 8).all()
    assert (values >= 8).all()
    assert (batch.targets_BT[:, 1::2] == IGNORE).all()
    pairs = {(int(k), int(v)) for k, v in zip(keys.flatten(), values.flatten(), strict=True)}
    assert len(pairs) == len({k for k, _ in pairs})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tasks": 0}, "task.num_tasks=0"),
        ({"num_tasks": 21}, "task.held_out=20"),
        ({"num_tasks": 11, "classes_per_task": 2}, "needs 22 classes"),
        ({"held_out": 100}, "task.held_out=100"),
        ({"seq_len": 1}, "task.seq_len=1"),
    ],
)
def test_impossible_streams_are_refused(recall, options, message):
    with pytest.raises(ValueError, match=message):
        split(recall, **options)


def test_a_sequence_longer_than_a_text_is_refused(languages):
    with pytest.raises(ValueError, match=r"task\.seq_len=100000"):
        split(languages, seq_len=100_000)
