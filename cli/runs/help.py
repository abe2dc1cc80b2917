"""`ttt-run --help`: alone, for a group, an option of a group, or a setting.

    ttt-run --help                     the command, its groups, what else one can ask
    ttt-run --help adapter             the options of a group, a line each
    ttt-run --help adapter=mlp_fast    the settings of an option, explained
    ttt-run --help eval.every          a setting, or a section such as eval

Hydra's own takes over a second, because it copies the config for every group it lists.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import ttt.conf
from ttt.config.explained import Explained, Setting, allowed_values, explain, explain_option
from ttt.config.messages import UsageError, suggest

WIDTH = 80
HEAD = """ttt-run: does this model keep learning, and what does it forget?

  ttt-run task=split-sequence adapter=mlp_fast    one run
  ttt-run -m adapter=none,mlp_fast seeds=5        a sweep over seeds 0 to 4
  ttt-run -m --dry-run adapter=none,mlp_fast      what a sweep would run
  ttt-run --study frontier                        the sweep of an experiment
  ttt-run --preview source=digits base=none       the stream, without training
  ttt-run --cfg job adapter=none                  the whole config of a command
  ttt-run --config-dir ./mine adapter=mine        your own parts
  ttt-run clean                                   what finished runs left behind
  ttt-run sync RUN --logger mlflow                a run in another tracker

--quiet shows nothing but errors, --plain nothing that moves, --verbose every
report.

The same command again prints a finished run at once and resumes an interrupted
one; results are bit-equal for the same device, threads and library versions.

Groups, typed as GROUP=OPTION:
"""
TAIL = """
  ttt-run --help adapter             all options of a group, a line each
  ttt-run --help adapter=mlp_fast    the settings of an option
  ttt-run --help eval.every          one setting; --help eval: a section
  ttt-run --hydra-help               Hydra's own options

Completion in bash: eval "$(ttt-run --completion bash)"; also zsh and fish
"""


def help_text(words: Sequence[str], *, config_dir: str | None) -> str:
    """What `--help WORDS` prints. Raises UsageError for a word that nothing goes by."""
    library = Library([Path(config_dir)] if config_dir else [])
    if words:
        return "\n\n".join(library.about(word) for word in words)
    lines = [_short(group, library.options(group)) for group in library.groups()]
    return HEAD + "\n".join(lines) + "\n" + TAIL.rstrip("\n")


class Library:
    """The YAML files of the project, and those in folders of the user's own, which come first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [*folders, Path(ttt.conf.__path__[0])]

    @property
    def run(self) -> Explained:
        """The config of a run itself, without what nobody types."""
        file = explain(self.read("config"))
        settings = tuple(x for x in file.settings if not x.key.startswith(("hydra.", "study", "published")))
        return Explained(file.about, "", (), settings)

    def groups(self) -> list[str]:
        return sorted({file.parent.name for folder in self._folders for file in folder.glob("*/*.yaml")})

    def options(self, group: str) -> list[str]:
        return sorted({file.stem for folder in self._folders for file in (folder / group).glob("*.yaml")})

    def keys(self, group: str, option: str) -> set[str]:
        """The settings of an option."""
        return {x.key for x in explain_option(f"{group}/{option}", read=self.read).settings}

    def read(self, option: str) -> str:
        """The text of a file such as `adapter/mlp_fast`."""
        places = [folder / f"{option}.yaml" for folder in self._folders]
        return next(place for place in places if place.is_file()).read_text()

    def about(self, word: str) -> str:
        """What there is to know about a group, an option, or a setting."""
        group, _, option = word.removeprefix("+").partition("=")
        group = group.partition("@")[0]
        if group in self.groups() and not option:
            return self._of_group(group)
        if group in self.groups():
            return self._of_option(group, option)
        return self._of_settings(group)

    def _of_group(self, group: str) -> str:
        options = self.options(group)
        width = max(map(len, options)) + 2
        rows = [_row(f"  {name:<{width}}", self._first_sentence(group, name)) for name in options]
        return "\n".join([f"{group}=", *rows])

    def _first_sentence(self, group: str, name: str) -> str:
        about = explain(self.read(f"{group}/{name}")).about.partition("\n")[0]
        return about.partition(". ")[0].removesuffix(".")

    def _of_option(self, group: str, option: str, *, key: str = "") -> str:
        """All settings of an option, or one."""
        if option not in self.options(group):
            raise UsageError(f"--help {group}={option}: unknown; {suggest(option, self.options(group))}")
        file = explain_option(f"{group}/{option}", read=self.read)
        allowed = allowed_values(file.target, group=group) if file.target.startswith("ttt.") else {}
        # An experiment sets keys of other groups by their whole names.
        prefix = "" if group == "experiment" else f"{group}."
        typed = [x for x in file.settings if x.key.partition(".")[0] not in ("study", "published")]
        chosen = [x for x in typed if key in ("", x.key)]
        # Neighbours may share one comment, which is then printed once.
        rows, above = [], ""
        for setting in chosen:
            rows.append(_setting(setting, prefix=prefix, allowed=allowed.get(setting.key, ""), above=above))
            above = setting.explanation
        about, *examples = file.about.split("\n")
        return "\n".join([_row(f"{group}={option}: ", about, indent=2), *examples, "", *rows]).rstrip()

    def _of_settings(self, word: str) -> str:
        settings = self.run.settings
        matching = [x for x in settings if x.key == word or x.key.startswith(f"{word}.")]
        if not matching:
            group, _, key = word.partition(".")
            if group in self.groups() and key:
                return self._of_part(group, key)
            names = {*self.groups(), *(x.key for x in settings), *(x.key.partition(".")[0] for x in settings)}
            raise UsageError(f"--help {word}: unknown; {suggest(word, names)}")
        return "\n".join(_setting(x, prefix="", allowed="", above="") for x in matching)

    def _of_part(self, group: str, key: str) -> str:
        """A setting such as adapter.chunk, of the default option or the first that has it."""
        options = sorted(self.options(group), key=lambda name: f"- {group}: {name}\n" not in self.read("config"))
        names: set[str] = set()
        for option in options:
            if key in self.keys(group, option):
                return self._of_option(group, option, key=key)
            names |= self.keys(group, option)
        raise UsageError(f"--help {group}.{key}: unknown; {suggest(key, names)}")


def _short(group: str, options: Sequence[str]) -> str:
    """A group and as many of its options as fit on one line."""
    line = f"  {group:<11}"
    for number, option in enumerate(options):
        more = f" ... {len(options)} in all"
        last = number == len(options) - 1
        if len(line) + len(option) + 1 + (0 if last else len(more)) > WIDTH:
            return line + more
        line += f" {option}"
    return line


def _setting(setting: Setting, *, prefix: str, allowed: str, above: str) -> str:
    """A setting with its explanation, unless that stands `above` it already."""
    head = f"  {prefix}{setting.key}={setting.default}"
    lines = [f"{head}    ({allowed})" if allowed else head]
    if len(lines[0]) > WIDTH:
        # A list of many words is a long default.
        head_lines = textwrap.wrap(head.strip(), WIDTH, initial_indent="  ", subsequent_indent=" " * 6)
        lines = [*head_lines, *textwrap.wrap(f"({allowed})", WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 7)]
    explanation = "" if setting.explanation == above else setting.explanation
    for paragraph in filter(None, explanation.split("\n")):
        lines += textwrap.wrap(paragraph, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _row(head: str, text: str, *, indent: int | None = None) -> str:
    """`head` and, beside and below it, `text`."""
    below = " " * (len(head) if indent is None else indent)
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=below)
