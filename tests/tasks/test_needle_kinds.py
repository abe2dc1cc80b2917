"""Kinds of needles: each answer is found by a solver that reads nothing but the text."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from sources import build_source, shared_source

from ttt.config.identity import identity
from ttt.run.compose import compose_run
from ttt.storage.read import flatten
from ttt.stream import IGNORE

LENGTH = 900


def solve_values(text):
    what, key = re.search(r"the special magic (\w+?)s? for ([\w-]+) mentioned", text).groups()
    return ", ".join(re.findall(rf"One of the special magic {what}s for {key} is: ([\w-]+)\.", text))


def solve_variables(text):
    assigned = {}
    for name, source in re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)\.", text):
        assigned[name] = assigned.get(source, source)
    wanted = re.search(r"have the value (\d+)", text)[1]
    return ", ".join(name for name, value in assigned.items() if value == wanted)


def listed(text):
    """The words of a list, the most frequent first."""
    listing = text.split("\nWhich")[0]
    return Counter(re.findall(r" ([a-z]{6})(?= |$)", listing)).most_common()


def solve_common(text):
    count = int(re.search(r"Which (\d+) words", text)[1])
    words = listed(text)
    assert words[0][1] == words[count - 1][1] > words[count][1]
    return ", ".join(sorted(word for word, _ in words[:count]))


def solve_frequent(text):
    count = int(re.search(r"Which (\d+) words", text)[1])
    words = listed(text)
    counts = [repeats for _, repeats in words[: count + 1]]
    assert sorted({*counts}, reverse=True) == counts
    return ", ".join(word for word, _ in words[:count])


SOLVERS = {
    "single-1": solve_values,
    "single-2": solve_values,
    "single-3": solve_values,
    "multi-key": solve_values,
    "multi-value": solve_values,
    "variable-tracking": solve_variables,
    "common-words": solve_common,
    "frequent-words": solve_frequent,
}
# The kinds, and settings of theirs.
CASES = [
    *((kind, {}) for kind in SOLVERS),
    ("single-2", {"value": "words"}),
    ("multi-value", {"count": 3, "others": 2, "value": "uuid"}),
    ("variable-tracking", {"count": 2, "others": 3, "digits": 5}),
    ("common-words", {"count": 2}),
]


def source_of(kind, **changes):
    return build_source("source=needle", kind=kind, **changes)


def decoded(source, tokens):
    return bytes(tokens.tolist()).decode(errors="replace")


def rows_of(source, classes, length=LENGTH):
    """(text up to the answer, answer) of eval rows and of training rows."""
    rng = np.random.default_rng(0)
    for batch in (
        source.evaluation(classes, rows=5, length=length), source.draw(classes, rows=5, length=length, rng=rng)
    ):  # fmt: skip
        assert batch.tokens_BT.shape == (5, length)
        for tokens_T, targets_T in zip(batch.tokens_BT, batch.targets_BT, strict=True):
            scored = int((targets_T != IGNORE).sum())
            # The answer stands at the end of the row, and nothing else is scored.
            assert (targets_T[-scored:] != IGNORE).all()
            assert (targets_T[-scored:-1] == tokens_T[1 - scored :]).all()
            yield decoded(source, tokens_T[: len(tokens_T) - scored + 1]), decoded(source, targets_T[-scored:])


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=[f"{kind}-{len(changes)}" for kind, changes in CASES])
def test_the_answer_follows_from_the_text(kind, changes):
    source = source_of(kind, **changes)
    for index in range(len(source.families())):
        for text, answer in rows_of(source, np.array([index])):
            assert answer == f" {SOLVERS[kind](text)}."


@pytest.mark.parametrize(("kind", "changes"), CASES, ids=[f"{kind}-{len(changes)}" for kind, changes in CASES])
def test_without_a_needle_the_answer_stands_nowhere(kind, changes):
    source = source_of(kind, present=False, **changes)
    for text, answer in rows_of(source, np.array([0])):
        assert answer != f" {SOLVERS[kind](text)}."
        assert not [word for word in answer[1:-1].split(", ") if word in text]


@pytest.mark.parametrize("kind", ["single-1", "multi-key", "multi-value", "variable-tracking"])
def test_what_is_asked_lies_in_the_part_of_its_class(kind):
    source, length = source_of(kind), 10_000
    pattern = r"VAR [A-Z]{{5}} =" if kind == "variable-tracking" else r"One of the special magic \w+ for {}"
    for depth in range(5):
        low, high = source.distances(depth, length=length)
        for text, _ in rows_of(source, np.array([depth]), length=length):
            key = re.search(r" for ([\w-]+) mentioned", text)
            places = [match.start() for match in re.finditer(pattern.format(key and key[1]), text)]
            assert places
            # Needles, question and answer are not haystack: 5 % of the text at most.
            assert all(low - 0.05 * length <= length - at <= high + 0.05 * length for at in places)


@pytest.mark.parametrize("kind", ["single-1", "variable-tracking", "frequent-words"])
def test_evaluation_is_never_trained_on(kind):
    source = source_of(kind)
    classes = np.arange(len(source.families()))
    fixed, again = (source.evaluation(classes, rows=20, length=LENGTH).tokens_BT.tolist() for _ in range(2))
    assert fixed == again
    trained = source.draw(classes, rows=200, length=LENGTH, rng=np.random.default_rng([0, 1, 2])).tokens_BT.tolist()
    assert len({*map(tuple, trained)}) == 200
    assert not {*map(tuple, trained)} & {*map(tuple, fixed)}


def test_a_long_haystack_is_joined_from_several_texts():
    source = source_of("single-2")
    batch = source.evaluation(np.arange(5), rows=2, length=20_000)
    assert batch.tokens_BT.shape == (2, 20_000)
    assert (batch.tokens_BT == source.evaluation(np.arange(5), rows=2, length=20_000).tokens_BT).all()


def test_kinds_differ_and_the_default_is_what_it_was():
    kinds = [source_of(kind) for kind in ("city", *SOLVERS)]
    assert len({source.fingerprint for source in kinds}) == len(kinds)
    assert kinds[0].fingerprint == shared_source("source=needle").fingerprint


@pytest.mark.parametrize("kind", ["common-words", "frequent-words"])
def test_a_list_takes_what_its_refusal_says(kind):
    source = source_of(kind)
    with pytest.raises(ValueError, match="at least") as refused:
        source.evaluation(np.array([0]), rows=1, length=100)
    least = int(str(refused.value).split()[-1])
    for length in range(least, least + 60):
        (text, answer), *_ = rows_of(source, np.array([0]), length=length)
        assert answer == f" {SOLVERS[kind](text)}."


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        ({"kind": "city", "value": "uuid"}, "source.value=uuid"),
        ({"kind": "common-words", "others": 1}, "source.others=1: source.kind=common-words"),
        ({"kind": "multi-value", "digits": 1}, "source.digits=1"),
    ],
)
def test_settings_that_a_kind_lacks_are_refused(typed, part):
    with pytest.raises(ValueError, match=part):
        source_of(**typed)


@pytest.mark.parametrize("kind", SOLVERS)
def test_short_rows_are_refused(kind):
    with pytest.raises(ValueError, match=r"task.seq_len=150"):
        source_of(kind).evaluation(np.array([0]), rows=1, length=150)


def test_runs_keep_their_names():
    config = compose_run(["source=needle"])
    source = {key: x for key, x in config["source"].items() if key not in ("kind", "value", "count", "others")}
    assert identity(config, data="d") == identity(config | {"source": source}, data="d")
    # Nor do they set methods apart.
    plain = config | {"source": source, "eval": {k: x for k, x in config["eval"].items() if k != "exact"}}
    assert flatten(plain) == flatten(config)
    other = compose_run(["source=needle", "source.kind=single-2"])
    assert identity(other, data="d") != identity(config, data="d")
