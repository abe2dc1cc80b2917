"""What sources share that generate their sequences, so that no pass over them ever ends."""

from __future__ import annotations

from typing import NoReturn

from ttt.stream import Batch, Ints


class Endless:
    """A source without labelled examples and without units that one pass could read."""

    example_len: int | None = None
    vector_size: int | None = None
    labels: range = range(0)
    token_bytes: Ints | None = None

    def eval_examples(self, classes: Ints) -> int | None:
        return None

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        return None

    def take(self, units: Ints, *, length: int) -> Batch:
        self._refuse()

    def per_row(self, *, length: int) -> int:
        self._refuse()

    def _refuse(self) -> NoReturn:
        # A stream asks `units` first and stops at None: getting here is a bug, not a wrong option.
        raise AssertionError(f"{type(self).__name__} generates its sequences: it has no units")
