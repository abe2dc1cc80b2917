"""Rows of a dataset of the Hugging Face hub: texts with labels, or prompts with answers.

    {"text": "I rented I AM...", "label": 0}       source.text=text source.label=label
    {"ask": "Natalia sold...", "answer": "72"}     source.prompt=ask source.answer=answer

Numbers that stand for names, as labels often do, become these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from ttt.tasks.csv import Csv
from ttt.tasks.machinery.hub_rows import HubRows, named
from ttt.tasks.machinery.rows import Row


@dataclass(kw_only=True, eq=False)
class HfExamples(Csv):
    """Arguments are explained in conf/source/hf-examples.yaml."""

    subset: str | None
    split: str
    revision: str | None
    max_rows: Annotated[int, Ge(1)] | None
    streaming: bool

    def table(self) -> Iterator[tuple[Row, str, str]]:
        hub, features = HubRows(self), dict[str, Any]()
        for row in hub.rows(features):
            yield {name: named(value, features.get(name)) for name, value in row.items()}, hub.name, str(self.path)
