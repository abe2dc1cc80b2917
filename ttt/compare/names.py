"""What people call the keys, values and metrics of a comparison: in a paper no config key stands.

--label optimizer.lr='learning rate'            a column, or the rows of a key
--label 'adapter=mlp_fast=In-Place TTT'         a value of a key, and so a method
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ttt.compare.groups import Group, name_of
from ttt.compare.sheet import Sheet
from ttt.config.messages import show, suggest
from ttt.results import catalogue

# Other keys are called by their last word.
KEYS = {"optimizer.lr": "learning rate", "also.name": "second strategy"}
MINUS = ", minus null"
# A key or a metric in a sentence, without the sign that follows it.
WORD = re.compile(r"\w[\w./-]*\w")


@dataclass(frozen=True)
class Names:
    """Names that were typed: of keys and metrics, and of values by (key, value).

    `readable`: what has no such name is called by the catalogue, and not as one would type it.
    """

    heads: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[tuple[str, str], str] = field(default_factory=dict)
    readable: bool = False

    def as_readable(self) -> Names:
        return replace(self, readable=True)

    def head(self, key: str) -> str:
        """A key or a metric."""
        if key in self.heads or not self.readable:
            return self.heads.get(key, key)
        if key.endswith(MINUS):
            return self.head(key.removesuffix(MINUS)) + MINUS
        return metric_name(key) if key.count("/") == 2 else readable_key(key)

    def value(self, key: str, word: str) -> str:
        return self.values.get((key, word), word)

    def method(self, label: Mapping[str, Any]) -> str:
        """A group: In-Place TTT, learning rate 0.001."""
        if not self.readable:
            return name_of({key: self.value(key, show(value)) for key, value in label.items()})
        words = [self._part(key, show(value)) for key, value in label.items()]
        return ", ".join(word for word in words if word) or "all runs"

    def _part(self, key: str, word: str) -> str:
        """A value in the name of a method, empty for a key that the method does not have."""
        if (key, word) in self.values or not word:
            return self.value(key, word)
        # "none" alone does not say what there is none of.
        if key.endswith(".name"):
            return f"no {self.head(key)}" if word == "none" else word
        return f"{self.head(key)} {word}"

    def on(self, sheet: Sheet, groups: Sequence[Group]) -> Sheet:
        """The sheet in these names; its columns may be metrics or groups."""
        methods = {group.name: self.method(group.label) for group in groups}
        rows = [
            ([self.value(key, word) for key, word in zip(sheet.keys, words, strict=True)], cells)
            for words, cells in sheet.rows
        ]
        columns = [methods.get(column) or self.head(column) for column in sheet.columns]
        keys, heads = ([self.head(key) for key in each] for each in (sheet.keys, sheet.heads))
        called = {*sheet.keys, *(key for group in groups for key in group.label)}
        title = WORD.sub(lambda match: self._called(match[0], called), sheet.title)
        return replace(sheet, title=title, keys=keys, heads=heads, columns=columns, rows=rows)

    def _called(self, word: str, keys: Container[str]) -> str:
        """A word of a title: a key or a metric by its name."""
        return self.head(word) if word in keys or is_metric(word) else word


# Without names that were typed.
READABLE = Names(readable=True)


def is_metric(word: str) -> bool:
    try:
        return bool(catalogue.find(word))
    except KeyError:
        return False


def readable_key(key: str) -> str:
    """adapter.name: adapter; optimizer.lr: learning rate; task.steps_per_task: steps per task."""
    return KEYS.get(key) or key.removesuffix(".name").rpartition(".")[2].replace("_", " ")


def metric_name(metric: str) -> str:
    """What the catalogue calls a metric, its mode, and where good is: loss at the end (fast) ↓."""
    mode, _, _ = metric.split("/")
    title = catalogue.title(metric)
    arrow = f" {'↑' if catalogue.better(metric) > 0 else '↓'}" if catalogue.is_judged(metric) else ""
    return (title if mode in ("cost", "fast_gain", "split") else f"{title} ({mode})") + arrow


def read_names(typed: Sequence[str], groups: Sequence[Group], columns: Sequence[str]) -> Names:
    """The names of --label. Raises ValueError for a key or a value that is not there."""
    heads, values = {}, {}
    keys = {key for group in groups for key in group.label}
    for text in typed:
        # Only the first two signs cut: a name may hold a = itself.
        key, *rest = (word.strip() for word in text.split("=", 2))
        key = f"{key}.name" if f"{key}.name" in keys else key
        if not rest or not all([key, *rest]):
            raise ValueError(f"--label {text}: must be KEY=NAME or KEY=VALUE=NAME, like adapter=mlp_fast=In-Place TTT")
        if key not in {*keys, *columns, "seeds"}:
            raise ValueError(f"--label {text}: no such key; {suggest(key, {*keys, *columns})}")
        if len(rest) == 1:
            heads[key] = rest[0]
            continue
        if key not in keys:
            raise ValueError(f"--label {text}: {key} is a column, which has a name alone: {key}=NAME")
        allowed = {show(group.label[key]) for group in groups if key in group.label}
        if rest[0] not in allowed:
            raise ValueError(f"--label {text}: no such runs; {suggest(rest[0], allowed)}")
        values[key, rest[0]] = rest[1]
    return Names(heads, values)
