"""Several corpora as one source: each part draws, measures and reads as it does alone."""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sources import shared_source
from texts import every_class, parts_of

from ttt.tasks.corpora import Corpora


@pytest.fixture(scope="module")
def joined():
    return shared_source("source=corpora")


def classes_of(joined, part):
    """Return the classes of one part, by their names."""
    return np.array([c for c in every_class(joined) if joined.class_name(c).startswith(f"{part}/")])


def test_classes_of_all_parts_under_their_names(joined):
    assert list(joined.parts) == ["languages", "code", "prose", "tables"]
    alone = {name: shared_source(f"source={name}") for name in joined.parts}
    for name, source in alone.items():
        names = [joined.class_name(c) for c in classes_of(joined, name)]
        assert names == [f"{name}/{source.class_name(c)}" for c in every_class(source)]
    assert len(joined.families()) == sum(len(source.families()) for source in alone.values())


def test_a_part_that_is_null_is_left_out(joined):
    some = shared_source("source=corpora", "source.parts.languages=null", "source.parts.tables=null")
    names = [joined.class_name(c) for part in ("code", "prose") for c in classes_of(joined, part)]
    assert [some.class_name(c) for c in every_class(some)] == names
    with pytest.raises(ValueError, match=r"^source\.parts"):
        Corpora(name="corpora", parts={"languages": None})


def test_a_part_draws_measures_and_reads_as_it_does_alone(joined):
    for name in joined.parts:
        source, classes = shared_source(f"source={name}"), classes_of(joined, name)
        alone = every_class(source)
        first, second = joined.evaluation(classes, rows=9, length=50), source.evaluation(alone, rows=9, length=50)
        assert torch.equal(first.tokens_BT, second.tokens_BT)
        first = joined.take(joined.units(classes, length=50)[::7, None], length=50)
        second = source.take(source.units(alone, length=50)[::7, None], length=50)
        assert torch.equal(first.tokens_BT, second.tokens_BT)


def test_rows_of_several_parts_are_as_likely_as_their_classes(joined):
    parts = parts_of(joined)
    mixed = np.concatenate([classes_of(joined, "prose")[:3], classes_of(joined, "tables")[:1]])
    homes = [parts[c][0].tobytes() for c in mixed]
    batch = joined.draw(mixed, rows=400, length=60, rng=np.random.default_rng(0))
    home_B = [next(i for i, home in enumerate(homes) if bytes(row) in home) for row in batch.tokens_BT.tolist()]
    # A row's class does not depend on where it stands.
    for half in (home_B[:200], home_B[200:]):
        assert min(Counter(half).values()) > 30
        assert len(Counter(half)) == 4
    # The order of classes and parts is kept.
    across = mixed[[3, 0, 2, 1]]
    held_out = joined.evaluation(across, rows=4, length=60)
    for c, row in zip(across, held_out.tokens_BT.tolist(), strict=True):
        assert any(bytes(row) in run.tobytes() for run in parts[c][1])


def test_parts_that_do_not_go_together_are_refused():
    prose, bpe = shared_source("source=prose"), shared_source("source=prose", "source.tokenizer=bpe-512")
    other = SimpleNamespace(vocab_size=32, example_len=None)
    for parts, begins, names in (
        ({}, "source.parts={}", ""),
        ({"a": prose, "b": bpe}, "source.parts.b.tokenizer=bpe-512", ""),
        ({"a": prose, "b": other}, "source.parts", "a 256, b 32"),
        ({"a": SimpleNamespace(example_len=17)}, "source.parts.a", ""),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(begins)}: ") as error:
            Corpora(name="corpora", parts=parts)
        assert names in str(error.value)
        assert "\n" not in str(error.value)
