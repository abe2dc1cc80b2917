"""A table of intervals: words that name a row, then an interval over seeds in each column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ttt.metrics.seeds import Interval

# The key that says what the cells of a row are, where rows differ in it.
SHOWS = "shows"


@dataclass(frozen=True)
class Cell:
    """An interval over seeds.

    `difference`: to a baseline, over the seeds that both have, with the `p` of the sign-flip test.
    `signed`: zero means no effect. `best`: the best mean of its column. `ahead`: the best, and its
    paired difference to every other group leaves out zero; `nearly_ahead`: but for differences
    without spread. `of_machine`: seeds prove nothing about it.
    """

    interval: Interval
    difference: bool = False
    signed: bool = False
    p: float = float("nan")
    best: bool = False
    ahead: bool = False
    nearly_ahead: bool = False
    of_machine: bool = False

    @property
    def has_zero(self) -> bool:
        """Would zero mean something?"""
        return (self.difference or self.signed) and not self.of_machine

    @property
    def resolved(self) -> bool:
        """Does the interval leave out zero, where zero would mean something?"""
        return self.has_zero and self.interval.resolved

    @property
    def lacks_spread(self) -> bool:
        """Is there no star, or no bold, only because all values behind it are equal?"""
        return self.nearly_ahead or (self.has_zero and self.interval.is_flat and self.interval.mean != 0)


# The words that name it, and its cells.
Row = tuple[Sequence[str], Sequence[Cell]]


@dataclass(frozen=True)
class Sheet:
    """`keys` name the leading words of a row, `columns` its cells; `title` says what is compared.

    `legend`: how to read the cells, in phrases. `heads`: the keys whose words stand once, above the
    rows that share them. `in_words`: the words already say what the cells say, so that people do
    not need the cells. `notes` stand below.
    """

    title: str
    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Row]
    heads: Sequence[str] = ()
    in_words: bool = False
    notes: Sequence[str] = ()
    legend: Sequence[str] = ()

    @property
    def headline(self) -> str:
        """What is compared and how to read it, in one line."""
        return "; ".join([self.title, *self.legend])

    def for_people(self) -> Sheet:
        """The sheet without cells that its words already say."""
        return replace(self, columns=[], rows=[(words, []) for words, _ in self.rows]) if self.in_words else self

    def sections(self) -> list[tuple[str, Sheet]]:
        """Consecutive rows under equal heads: a line with these heads, and a sheet without them."""
        # groupby sees neighbours only: rows keep their order, and a head may stand twice.
        heads = [i for i, key in enumerate(self.keys) if key in self.heads]
        rest = [i for i in range(len(self.keys)) if i not in heads]
        sections = []
        for words, rows in groupby(self.rows, key=lambda row: [row[0][i] for i in heads]):
            parts = zip((self.keys[i] for i in heads), words, strict=True)
            line = "; ".join(word if key == SHOWS else f"{key}: {word}" for key, word in parts)
            below = [([row_words[i] for i in rest], cells) for row_words, cells in rows]
            sections.append((line, replace(self, keys=[self.keys[i] for i in rest], rows=below, heads=())))
        return sections

    def records(self) -> list[dict[str, object]]:
        """One flat row for each cell, for CSV and JSON; None where nothing was measured."""
        return [
            dict(zip(self.keys, words, strict=True)) | {"column": column} | _record(cell)
            for words, cells in self.rows
            for column, cell in zip(self.columns, cells, strict=True)
        ]


def _record(cell: Cell) -> dict[str, object]:
    interval = cell.interval
    count: dict[str, object] = {"n": interval.n, "difference": cell.difference}
    ends = {"low": interval.low, "high": interval.high}
    numbers = {"mean": interval.mean, "sd": interval.sd, **ends, "p": cell.p}
    return (
        count
        | {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        | {"resolved": cell.resolved, "best": cell.best, "ahead": cell.ahead, "unbounded": math.isinf(interval.half)}
    )
