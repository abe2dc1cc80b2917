"""Pages of config groups: each option with its settings, defaults and allowed values."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from importlib.resources import files

from markup import code, escaped, paragraphs, table

import ttt.conf
from ttt.config.build import locate
from ttt.config.explained import Setting, allowed_values, explain, explain_option

CONF = files(ttt.conf)
# In the order in which one meets them, with what each is.
GROUPS = {
    "task": "How a source becomes a stream of tasks.",
    "source": "Where sequences come from.",
    "model": "The network whose weights are slow.",
    "base": "The slow weights with which the stream begins.",
    "adapter": "Fast weights: where they sit, and how they are written and read.",
    "optimizer": "What moves the slow weights, and how fast.",
    "objective": "What the slow weights learn from.",
    "strategy": "What protects slow weights across tasks, or keeps them plastic.",
    "trainer": "Devices, precision and threads.",
    "logger": "Who looks on.",
}
HEAD = ("setting", "default", "allowed", "meaning")


def read(name: str) -> str:
    """The text of a file of `conf`."""
    return (CONF / f"{name}.yaml").read_text()


def group_page(group: str) -> str:
    """All options of a group, behind what several of them share."""
    names = sorted(path.name.removesuffix(".yaml") for path in (CONF / group).iterdir() if path.name.endswith(".yaml"))
    parts = sorted({part for name in names for part in parts_of(f"{group}/{name}")})
    text = f"# {group}=\n\n{GROUPS[group]} The default is `{group}={default_option(group)}`.\n\n"
    text += "".join(_part_section(group, part, names) for part in parts)
    return text + "".join(_option_section(group, name) for name in names)


def run_page() -> str:
    """The settings that belong to no group."""
    settings = [x for x in explain(read("config")).settings if not x.key.startswith("hydra.")]
    text = "# Settings of a run\n\nSettings that belong to no group: the seed, folders, evaluation and sweeps.\n\n"
    return text + _settings("", settings, {})


def default_option(group: str) -> str:
    """The option that `conf/config.yaml` names."""
    lines = [line.strip() for line in read("config").splitlines()]
    return next(line.partition(": ")[2] for line in lines if line.startswith(f"- {group}: "))


def parts_of(option: str) -> list[str]:
    """The files beside the groups, such as `stream`, whose settings an option takes over."""
    names = [name for name in explain(read(option)).includes if name.startswith("/") and "/" not in name[1:]]
    return [part for name in names for part in (name[1:], *parts_of(name[1:]))]


def _title(part: str) -> str:
    """What a part says it is, up to the first stop, as the title of its section."""
    return re.split(r"[;:.]", explain(read(part)).about)[0]


def _part_section(group: str, part: str, names: Sequence[str]) -> str:
    """What several options share; the class of one of them says what is allowed."""
    user = next(name for name in names if part in parts_of(f"{group}/{name}"))
    allowed = allowed_values(explain_option(f"{group}/{user}", read=read).target, group=group)
    return f"## {_title(part)}\n\n" + _settings(group, explain(read(part)).settings, allowed)


def _option_section(group: str, name: str) -> str:
    option = f"{group}/{name}"
    explained = explain_option(option, read=read)
    # A section above has what an option takes over unchanged.
    above = [setting for part in parts_of(option) for setting in explain(read(part)).settings]
    ours = [setting for setting in explained.settings if setting not in above]
    text = f"## {group}={name}\n\n{paragraphs(explained.about)}"
    if explain(read(option)).target:
        text += _idea(explained.target, group=group)
    text += _settings(group, ours, allowed_values(explained.target, group=group))
    return f"{text}Class: `{explained.target}`.{_see(option)}\n\n"


def _idea(target: str, *, group: str) -> str:
    """The head of a module, folded: the equation, and the source."""
    doc = inspect.getdoc(sys.modules[locate(target, group=group, trusted=()).__module__]) or ""
    if "\n" not in doc:
        return ""
    return '??? note "Idea, equation, source"\n\n' + textwrap.indent(f"```text\n{doc}\n```", "    ") + "\n\n"


def _see(option: str) -> str:
    """Links to what an option shares with others."""
    group = option.partition("/")[0]
    theirs = [f"{group}={name}" for name in explain(read(option)).includes if not name.startswith("/")]
    titles = [*theirs, *map(_title, parts_of(option))]
    links = [f"[{title}](#{_anchor(title)})" for title in titles]
    return f" Also: {', '.join(links)}." if links else ""


def _anchor(title: str) -> str:
    """The name of a section, as Markdown's table of contents makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def _settings(group: str, settings: Sequence[Setting], allowed: dict[str, str]) -> str:
    shown = [x for x in settings if x.explanation or not x.default.startswith("${")]
    if not shown:
        return ""
    rows = [
        (code(f"{group}.{x.key}".strip(".")), code(x.default), escaped(allowed.get(x.key, "")), escaped(x.explanation))
        for x in shown
    ]
    if not any(row[2] for row in rows):
        return table([HEAD[0], HEAD[1], HEAD[3]], [(row[0], row[1], row[3]) for row in rows])
    return table(HEAD, rows)
