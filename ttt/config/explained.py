"""What the YAML files say about themselves: the comments above keys, as explanations.

    # Elastic weight consolidation.          the file: its first comment
    _target_: ttt.strategies.ewc.Ewc
    # Training rows that are read.           the keys below, up to the next comment or section
    samples: 256

Only text is read here. `allowed_values` alone imports the class that a file names.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from ttt.config.allowed import describe
from ttt.config.build import locate

# Keys that say how a file is put together: not settings, unless they must be typed.
STRUCTURE = ("defaults", "_target_", "name")
# What must be typed.
MISSING = "???"


@dataclass(frozen=True)
class Setting:
    """A key with dots, its default as the YAML spells it, and the comment above it.

    Lines of the explanation that begin with two spaces are rows of a list.
    """

    key: str
    default: str
    explanation: str


@dataclass(frozen=True)
class Explained:
    """What one file says: about itself, its class, the files it includes, and its settings."""

    about: str
    target: str
    includes: tuple[str, ...]
    settings: tuple[Setting, ...]

    def section(self, group: str) -> tuple[Setting, ...]:
        """The settings of `group`, without its name, in a file that sets other groups too."""
        prefix = f"{group}."
        return tuple(
            dataclasses.replace(setting, key=setting.key.removeprefix(prefix))
            for setting in self.settings
            if setting.key.startswith(prefix)
        )


def explain(text: str) -> Explained:
    """Read one YAML file."""
    root = yaml.compose(text)
    lines = text.splitlines()
    pairs = root.value if root else []
    about, first = _head(lines)
    settings: list[Setting] = []
    # Below the head, the first key has what is left of the comment.
    _walk(pairs, lines, prefix="", settings=settings, first=first)
    target = next((value.value for key, value in _all_pairs(pairs) if key.value == "_target_"), "")
    return Explained(about, target, tuple(_includes(pairs)), tuple(settings))


def explain_option(option: str, *, read: Callable[[str], str]) -> Explained:
    """An option such as `adapter/mlp_fast`, with the settings of the files that it includes.

    `read` returns the text of a file by that name. What the file itself sets comes first; what it
    says of an included setting stands behind the included explanation.
    """
    file = explain(read(option))
    group = option.partition("/")[0]
    settings = {x.key: x for x in file.section(group) or file.settings}
    target = file.target
    for name in file.includes:
        included = explain_option(name[1:] if name.startswith("/") else f"{group}/{name}", read=read)
        target = target or included.target
        for setting in included.settings:
            ours = settings.get(setting.key, setting)
            settings[setting.key] = dataclasses.replace(ours, explanation=_both(setting, ours))
    return dataclasses.replace(file, target=target, settings=tuple(settings.values()))


def allowed_values(target: str, *, group: str) -> dict[str, str]:
    """Argument -> what it may be, in words, from the annotations of the class `target`."""
    kind = locate(target, group=group, trusted=())
    annotated: Any = kind if dataclasses.is_dataclass(kind) else kind.__init__  # type: ignore[misc]
    hints = typing.get_type_hints(annotated, include_extras=True)
    return {name: describe(hints[name]) for name in inspect.signature(kind).parameters if name in hints}


def _both(included: Setting, ours: Setting) -> str:
    """The explanation of an included setting, and what our file says of its value here."""
    if ours is included or not ours.explanation:
        return included.explanation
    return f"{included.explanation} Here: {ours.explanation}" if included.explanation else ours.explanation


def _head(lines: list[str]) -> tuple[str, str]:
    """The comment on the file, and what of it belongs to its first key.

    Where the file begins with a setting, its first sentence that ends with a line is on the file.
    """
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            comment.append(line)
    after = next((line for line in lines if line and not line.startswith("#")), "")
    begins = after.partition(":")
    if begins[0] in STRUCTURE or not begins[2].strip():
        return _joined(comment), ""
    end = next((i for i, line in enumerate(comment) if line.endswith(".")), len(comment) - 1) + 1
    return _joined(comment[:end]), _joined(comment[end:])


def _walk(
    pairs: list[tuple[yaml.Node, yaml.Node]], lines: list[str], *, prefix: str, settings: list[Setting], first: str
) -> None:
    """Collect the settings of a mapping; a key without a comment shares that of the key above."""
    explanation = first
    for index, (key, value) in enumerate(pairs):
        # Above the very first key stands the head.
        comment = _joined(_above(lines, key.start_mark.line)) if prefix or index else ""
        explanation = comment or explanation
        name, default = f"{prefix}{key.value}", _spelled(lines, value)
        if key.value in STRUCTURE and default != MISSING:
            explanation = ""
        elif isinstance(value, yaml.MappingNode) and not value.flow_style:
            _walk(value.value, lines, prefix=f"{name}.", settings=settings, first=comment)
            explanation = ""
        else:
            # A value that comes from elsewhere has nothing to do with the key above.
            passed_on = default.startswith("${") and not comment
            settings.append(Setting(name, default, "" if passed_on else explanation))


def _above(lines: list[str], line: int) -> list[str]:
    """The comment that ends directly above a line."""
    start = line
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return lines[start:line]


def _joined(comment: list[str]) -> str:
    """A comment without its marks, as one line; rows that are indented keep lines of their own."""
    joined = ""
    for line in comment:
        text = line.lstrip()[1:].removeprefix(" ").rstrip()
        joined += f"\n{text}" if text.startswith("  ") else f" {text}"
    return _continued(joined.strip())


def _continued(text: str) -> str:
    """Join a row with the rows below it that are indented further: these go on with it."""
    rows = text.split("\n")
    joined = rows[:1]
    for row in rows[1:]:
        deeper = row.startswith("      ") and len(joined) > 1
        joined[-1:] = [f"{joined[-1]} {row.strip()}"] if deeper else [joined[-1], row]
    return "\n".join(joined)


def _spelled(lines: list[str], value: yaml.Node) -> str:
    """A value as the file spells it, on one line."""
    start, end = value.start_mark, value.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column]
    # A block ends at the start of the next line, which the last one lacks.
    last = [lines[end.line][: end.column]] if end.line < len(lines) else []
    whole = [lines[start.line][start.column :], *lines[start.line + 1 : end.line], *last]
    return " ".join(" ".join(whole).split())


def _all_pairs(pairs: list[tuple[yaml.Node, yaml.Node]]) -> list[tuple[yaml.Node, yaml.Node]]:
    """The pairs of a mapping and of the sections directly in it."""
    inner = [pair for _, value in pairs if isinstance(value, yaml.MappingNode) for pair in value.value]
    return [*pairs, *inner]


def _includes(pairs: list[tuple[yaml.Node, yaml.Node]]) -> list[str]:
    """The files whose settings this one takes over, as `/stream` or `mlp_fast`."""
    listed = next((value for key, value in pairs if key.value == "defaults"), None)
    names = [item.value for item in listed.value if isinstance(item, yaml.ScalarNode)] if listed else []
    # A package other than _here_ is a section of its own: a part, not more of the same.
    plain = [name.removesuffix("@_here_") for name in names if name != "_self_"]
    return [name for name in plain if "@" not in name]
