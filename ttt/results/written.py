"""Results out of the text of a results.json, whose rows are parsed when somebody asks for them.

A table of a thousand runs needs few numbers of each. As the file is written, each key and each
number has a line of its own, indented by its depth: so a list is found by the lines above it.

    {
      "columns": [
        0,
        ...
      "scores": {
        "slow": {
          "loss": [
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache, cached_property
from typing import Any, Literal

from ttt.results.results import Results
from ttt.results.rows import Row, rows_from_json, scores_from_json
from ttt.results.saved import from_json, without_rows
from ttt.results.scores import Scores

# What opens a row and closes it, and closes an object in it.
OPEN, END, CLOSE = b"\n    {\n", b"\n    }", b"\n      }"


class WrittenResults(Results):
    """Results whose rows are text until somebody asks for more than one list of each."""

    _text = b""
    _span = slice(0)
    _parsed: list[Row]

    def defer(self, text: bytes, rows: slice) -> None:
        """Have the rows that lie there in a text."""
        self._text, self._span = text, rows

    @property
    def rows(self) -> list[Row]:
        if self._text:
            self.rows = rows_from_json(json.loads(self._text[self._span]))
        return self._parsed

    @rows.setter
    def rows(self, rows: list[Row]) -> None:
        self._parsed, self._text = rows, b""

    @property
    def row_count(self) -> int:
        return len(self._places) if self._text else super().row_count

    def _in_first_row(self, key: Literal["scores", "known_sets"]) -> dict[str, Any]:
        if not self._text or not self._places:
            return super()._in_first_row(key)
        return self._known_sets if key == "known_sets" else self._scores

    @cached_property
    def _scores(self) -> Scores:
        return scores_from_json(self._first("scores"))

    @cached_property
    def _known_sets(self) -> dict[str, Scores]:
        return {name: scores_from_json(scores) for name, scores in self._first("known_sets").items()}

    def _first(self, key: str) -> dict[str, Any]:
        """The object behind a key of the first row; empty where it has no such key."""
        line, row = _line(key, depth=3), self._places[0]
        begin = self._text.find(line, row, self._text.index(END, row))
        if begin < 0:
            return {}
        end = self._text.index(CLOSE, begin) + len(CLOSE)
        content: dict[str, Any] = json.loads(self._text[begin + len(line) : end])
        return content

    @cached_property
    def _places(self) -> list[int]:
        """Where each row begins."""
        places, place = [], self._text.find(OPEN, self._span.start)
        while place >= 0:
            places.append(place)
            place = self._text.find(OPEN, place + 1)
        return places

    def _values(self, mode: str, quantity: str) -> Iterable[tuple[list[int], list[float]]]:
        # What was not measured is for the rows to refuse.
        if not self._text or mode not in self.modes or quantity not in self.quantities:
            return super()._values(mode, quantity)
        return zip(self._columns, self._lists("scores", mode, quantity), strict=True)

    @cached_property
    def _columns(self) -> list[list[int]]:
        return self._lists("columns")

    def _lists(self, *keys: str) -> list[list[Any]]:
        """In each row the list behind these keys, each of which lies in the one before it."""
        lines = [_line(key, depth=depth) for depth, key in enumerate(keys, start=3)]
        lists = []
        for place in self._places:
            for line in lines:
                place = self._text.index(line, place) + len(line)
            lists.append(self._text[place : self._text.index(b"]", place) + 1])
        # JSON has no NaN, but the parser knows the word.
        content: list[list[Any]] = json.loads(b"[" + b",".join(lists).replace(b"null", b"NaN") + b"]")
        return content


@cache
def _line(key: str, *, depth: int) -> bytes:
    """How the line of a key begins."""
    return b"\n" + b"  " * depth + json.dumps(key, ensure_ascii=False).encode() + b": "


def from_text(text: bytes, *, end: int) -> Results:
    """The results of a text that `as_json` wrote, up to `end`. Raises what `from_json` raises."""
    # Metrics are computed anew: a reader jumps over them.
    metrics = text.find(_line("metrics", depth=1))
    after = text.find(_line("references", depth=1), metrics)
    rows = text.find(_line("rows", depth=1), after)
    # In alphabetical order, as of earlier versions, the scenario comes last.
    if not (text.startswith(b"{" + _line("scenario", depth=1)) and metrics < after < rows):
        return from_json(json.loads(text[:end] + b"}"))
    results = without_rows(WrittenResults, json.loads(text[:metrics] + text[after:rows].rstrip(b",") + b"}"))
    results.defer(text, slice(rows + len(_line("rows", depth=1)), end))
    return results
