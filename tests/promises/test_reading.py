"""Promises about reading catch the adapter that breaks them, and say where."""

from __future__ import annotations

import pytest
from leaking import CHUNK, counting
from tiny_adapters import make, tokens

from ttt.promises.reading import (
    OF_ADAPTERS,
    ReadingCase,
    evaluation,
    in_pieces,
    lanes,
    lifetime,
    order,
    packed_documents,
    padding,
    same_again,
    writes,
)  # fmt: skip

# What is wrong, with which lifetime; the promise that is meant for it; where the example lies.
BROKEN = [
    ("itself", "task", order, "token"),
    ("targets", "task", order, "token"),
    ("chunk", "task", order, "token"),
    ("twice", "sequence", order, "mode fast"),
    ("documents", "sequence", packed_documents, "second of two documents"),
    ("padding", "task", padding, "padding"),
    ("lanes", "task", lanes, "row"),
    ("pieces", "task", in_pieces, "in pieces of 1, 1"),
    ("memory", "task", same_again, "read again"),
    ("in place", "task", evaluation, "state that a reading started from"),
    ("sequence", "sequence", lifetime, "sequence before"),
    ("off", "task", writes, "writes off"),
]


@pytest.mark.parametrize(("leak", "reset", "promise", "where"), BROKEN)
def test_a_broken_promise_shows_an_example(leak, reset, promise, where):
    ruling = promise(ReadingCase(counting(reset=reset, leak=leak), tokens(1), chunk=CHUNK))
    assert ruling.holds is False
    assert where in ruling.why


def test_an_honest_adapter_keeps_them_all():
    case = ReadingCase(counting(reset="task"), tokens(1), chunk=CHUNK)
    rulings = {words: promise(case) for words, promise in OF_ADAPTERS.items()}
    assert [words for words, ruling in rulings.items() if ruling.holds is False] == []
    # With this lifetime one promise is not given.
    assert [words for words, ruling in rulings.items() if ruling.holds is None] == [
        "packed documents read as separate ones"
    ]


def test_without_fast_weights_nothing_is_said_of_writes():
    case = ReadingCase(make("none"), tokens(1))
    assert writes(case).holds is None
    assert lifetime(case).holds is None
