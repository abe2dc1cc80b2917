"""Pages of config groups: each option with its settings, defaults and allowed values."""

from __future__ import annotations

from importlib.resources import files

import ttt.conf
from markup import code, escaped, paragraphs, table
from ttt.config.build import locate
from ttt.config.explained import Explained, Setting, allowed_values, explain, explain_option

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
# Files that many options of a group include, and what they hold.
SHARED = {
    "task": ("stream", "Every stream"),
    "source": ("corpus", "Every source of running text"),
    "adapter": ("fast", "Every adapter that writes while it reads"),
    "optimizer": ("pace", "Every optimizer"),
}
IMAGES = ("examples", "Every source of images")
HEAD = ("setting", "default", "allowed", "meaning")


def read(name: str) -> str:
    """The text of a file of `conf`."""
    return (CONF / f"{name}.yaml").read_text()


def group_page(group: str) -> str:
    """All options of a group."""
    names = sorted(path.name.removesuffix(".yaml") for path in (CONF / group).iterdir() if path.name.endswith(".yaml"))
    shared = [part for part in (SHARED.get(group), IMAGES if group == "source" else None) if part]
    shared = [part for part in shared if (CONF / f"{part[0]}.yaml").is_file()]
    text = f"# {group}=\n\n{GROUPS[group]} The default is "
    text += f"`{group}={default_option(group)}`.\n\n"
    text += "".join(_shared_section(group, part, title) for part, title in shared)
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


def _shared_section(group: str, part: str, title: str) -> str:
    explained = explain(read(part))
    return f"## {title}\n\n{paragraphs(explained.about)}" + _settings(group, explained.settings, {})


def _option_section(group: str, name: str) -> str:
    explained = explain_option(f"{group}/{name}", read=read)
    text = f"## {group}={name}\n\n{paragraphs(explained.about)}"
    idea = _class_idea(explained, group=group)
    text += paragraphs(idea) if idea else ""
    allowed = allowed_values(explained.target, group=group)
    own = [setting for setting in explained.settings if not _is_shared(setting, group=group)]
    text += _settings(group, own, allowed)
    text += f"Class: `{explained.target}`."
    text += _see(explained, group=group)
    return text + "\n\n"


def _class_idea(explained: Explained, *, group: str) -> str:
    """The idea and the equation of a class, unless its docstring only points to the YAML."""
    doc = (locate(explained.target, group=group, trusted=()).__doc__ or "").strip()
    lines = [line.removeprefix("    ") for line in doc.split("\n")]
    is_signature = doc.startswith(f"{explained.target.rpartition('.')[2]}(")
    return "" if "explained in" in doc or is_signature else "\n".join(lines)


def _is_shared(setting: Setting, *, group: str) -> bool:
    """Whether a section above has the setting, with the same default."""
    parts = [part for part, _ in (*SHARED.values(), IMAGES) if (CONF / f"{part}.yaml").is_file()]
    return any(setting in explain(read(part)).settings for part in parts)


def _see(explained: Explained, *, group: str) -> str:
    """Links to what an option shares with others."""
    titles = dict([*SHARED.values(), IMAGES])
    links = []
    for name in explained.includes:
        title = titles.get(name.strip("/"), f"{group}={name}")
        links.append(f"[{title}](#{title.lower().replace('=', '').replace(' ', '-')})")
    return f" Also: {', '.join(links)}." if links else ""


def _settings(group: str, settings: list[Setting] | tuple[Setting, ...], allowed: dict[str, str]) -> str:
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
