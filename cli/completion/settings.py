"""Settings as one types them for ttt-run: groups, options, keys of the chosen parts, values.

ad                     adapter=  adapter.
adapter=mlp_           adapter=mlp_fast  adapter=mlp_fast_convert
adapter.               adapter.chunk=  adapter.reset=  ...     of the adapter on the line
adapter.reset=         adapter.reset=sequence  ...             what its class takes
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import yaml

from ttt.cli.runs.help import Library
from ttt.config.allowed import is_union
from ttt.config.annotations import hints_of
from ttt.config.explained import MISSING, Explained, explain_option
from ttt.config.extras import PLUGINS
from ttt.config.messages import show

BOOLS = ("true", "false")


class Settings:
    """What may be typed behind `words`, which may choose parts already."""

    def __init__(self, library: Library, words: Sequence[str]) -> None:
        self.library, self._words = library, words

    def starting(self, current: str) -> list[str]:
        """Every setting that goes on from `current`; of its values only the last behind a comma."""
        head, equals, value = current.partition("=")
        if not equals:
            return [name for name in self._heads(head) if name.startswith(head)]
        before, comma, last = value.rpartition(",")
        typed = before.split(",")
        # In a list with commas no value is offered twice.
        values = (x for x in self._values(head.lstrip("+")) if x.startswith(last) and x not in typed)
        return [f"{head}={before}{comma}{x}" for x in values]

    @cached_property
    def _chosen(self) -> Mapping[str, str]:
        """group, or group@section -> the option that the line chooses, or else the config."""
        options = _defaults(self.library, "config")
        words = dict(word.lstrip("+").split("=", 1) for word in self._words if "=" in word)
        if "experiment" in words:
            options |= _defaults(self.library, f"experiment/{words['experiment'].partition(',')[0]}")
        return options | {head: value.partition(",")[0] for head, value in words.items() if head in options}

    def _heads(self, current: str) -> Iterator[str]:
        section, dot, _ = current.partition(".")
        if dot:
            yield from (f"{section}.{key}=" for key in self._keys(section))
            yield from (f"{key}=" for key in self._of_run)
            return
        for group in self._chosen:
            yield f"{group}="
            if self._keys(group.rpartition("@")[2]):
                yield f"{group.rpartition('@')[2]}."
        yield from (f"{name}=" for name in PLUGINS)
        # Of a section its name: a tab more lists its keys.
        yield from dict.fromkeys(f"{key.partition('.')[0]}." if "." in key else f"{key}=" for key in self._of_run)

    @cached_property
    def _of_run(self) -> Mapping[str, str]:
        """Settings of no group, with their defaults."""
        return {x.key: x.default for x in self.library.run.settings}

    def _keys(self, section: str) -> list[str]:
        part = self._part(section)
        return [x.key for x in part.settings] if part else []

    def _part(self, section: str) -> Explained | None:
        """The chosen part of a section, which is mostly named as its group."""
        head = next((head for head in self._chosen if section == head.rpartition("@")[2]), "")
        group, option = head.partition("@")[0], self._chosen.get(head, "")
        if group not in self.library.groups() or option not in self.library.options(group):
            return None
        return explain_option(f"{group}/{option}", read=self.library.read)

    def _values(self, head: str) -> Iterable[str]:
        """What may stand behind `head=`: options, or words; empty where any text may."""
        group = head.partition("@")[0]
        if head in PLUGINS:
            return PLUGINS[head]
        if group in self.library.groups():
            return self.library.options(group)
        section, _, key = head.partition(".")
        part = self._part(section)
        if part is None:
            return _words(self._of_run.get(head, ""), hint=None)
        default = next((x.default for x in part.settings if x.key == key), "")
        # Classes of the user's own are not read.
        hints = hints_of(part.target) if part.target.startswith("ttt.") else {}
        return _words(default, hint=hints.get(key))


def _words(default: str, *, hint: typing.Any) -> list[str]:
    """The words that an annotation allows; without any the default, unless any text will do."""
    options = typing.get_args(hint) if is_union(hint) else (hint,)
    words = [show(x) for option in options if typing.get_origin(option) is typing.Literal
             for x in typing.get_args(option)]  # fmt: skip
    words += BOOLS if bool in options or default in BOOLS else ()
    if not words and str in options:
        return []
    words += ["null"] if type(None) in options else []
    # Nobody types interpolations, lists or ??? as values.
    is_plain = default not in ("", MISSING) and not set(default) & set("${[ ")
    return list(dict.fromkeys([*words, default] if is_plain else words))


def _defaults(library: Library, file: str) -> dict[str, str]:
    """What a file and those that it stands on choose: group -> option."""
    try:
        listed = yaml.safe_load(library.read(file)).get("defaults", [])
    except StopIteration:
        # There is no such file.
        return {}
    chosen: dict[str, str] = {}
    for item in listed:
        if isinstance(item, str) and item != "_self_":
            chosen |= _defaults(library, f"{file.rpartition('/')[0]}/{item}")
        elif isinstance(item, dict):
            pairs = ((key.removeprefix("override ").removeprefix("/"), value) for key, value in item.items())
            chosen |= {key: str(value) for key, value in pairs if not key.startswith("hydra/")}
    return chosen
