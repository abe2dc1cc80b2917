"""Synthetic recall: the same sequences as ever, and what generated sources have in common."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ttt.config.build import build
from ttt.run.compose import compose_run
from ttt.tasks.automata import Automata
from ttt.tasks.recall import Recall

WORLDS = np.arange(5, 1000, 3)


@pytest.fixture(scope="module")
def source():
    return Recall(name="recall", num_keys=16, num_values=16, num_worlds=2000, world_seed=0)


def digest(batch):
    parts = (batch.tokens_BT, batch.targets_BT, batch.segment_BT)
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize(
    ("key", "rows", "length", "expected"),
    [
        ([0, 3, 1, 7], 16, 256, "4faed3a77b3e1fb01bd834cfea2c9c2851d545d448beba7050fff43dfce55d31"),
        ([1, 2, 5], 3, 33, "2d207a162a70a75276abce730b479cc7d94b3b017c257e1bb7573678af9b6714"),
    ],
)
def test_recall_draws_the_sequences_of_version_0_1(source, key, rows, length, expected):
    batch = source.draw(WORLDS, rows=rows, length=length, rng=np.random.default_rng(key))
    assert digest(batch) == expected


@pytest.mark.parametrize(
    ("worlds", "rows", "length", "expected"),
    [
        (WORLDS, 8, 256, "1f6fe1cf98b2a69decc2cd56ebfcd78e6542dca9354569b1ca59c16e1968615d"),
        (WORLDS[:3], 8, 65, "a12c36c4b497f5249c18a025d2e2d77c22513c9ad00a15a8bb7113d661f2409e"),
        (WORLDS[4:5], 4, 32, "4d4359d5caac5dba22004afe3c3b9674dc658adc6df75415d8b7a271fff42c9c"),
    ],
)
def test_recall_evaluates_on_the_sequences_of_version_0_1(source, worlds, rows, length, expected):
    assert digest(source.evaluation(worlds, rows=rows, length=length)) == expected


def test_recall_shows_pairs(source):
    assert source.show(np.array([2, 21, 0, 19, 3])) == "k2→v5 k0→v3 k3"
    assert source.entropy(np.array([1, 2])) == 0.0
    assert source.symbols == range(16)


@pytest.mark.parametrize(
    ("argument", "value"), [("num_keys", 1), ("num_values", 1), ("num_worlds", 1), ("world_seed", -1)]
)
def test_impossible_worlds_are_refused(argument, value):
    config = compose_run(["source=recall"])["source"] | {argument: value}
    with pytest.raises(ValueError, match=rf"^source\.{argument}={value}: "):
        build(config, group="source", given={}, trusted=[])


def test_generated_sources_have_no_units(source):
    automata = Automata(
        name="automata", num_automata=2, num_states=2, num_symbols=2, concentration=0.5, automata_seed=0
    )
    for endless in (source, automata):
        assert endless.units(np.array([0]), length=8) is None
        assert endless.eval_examples(np.array([0])) is None
        assert (endless.rows, endless.labels, endless.example_len, endless.vector_size) == ({}, range(0), None, None)
        assert [list(family) for family in endless.families()][:2] == [[0], [1]]
        for refused in (lambda s: s.per_row(length=8), lambda s: s.take(np.array([[0]]), length=8)):
            with pytest.raises(AssertionError):
                refused(endless)
