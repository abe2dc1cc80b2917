"""Print what may stand where the cursor is, a line each: a shell calls this at the tab key.

    python -m ttt.cli.completion.answer ttt-run -m adapter=none,ml    ->    adapter=none,mlp_fast

The last word is what was typed of the current one, perhaps nothing. Torch is never loaded.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from ttt.cli.commands import COMMANDS
from ttt.cli.completion.parsers import FIRST, HIDDEN, SUBWORDS, VALUES, parser_of
from ttt.cli.completion.settings import Settings
from ttt.cli.runs.help import Library

# Commands that take settings as words of their own.
TAKE_SETTINGS = ("ttt-run", "ttt-check", "ttt-probe")


def main() -> None:
    """Answer the words on the command line."""
    command, *words = sys.argv[1:]
    for candidate in candidates(Path(command).name, words):
        print(candidate)


def candidates(command: str, words: Sequence[str]) -> list[str]:
    """All that goes on from the last of `words`; empty where files are meant."""
    *before, current = words
    if command not in COMMANDS:
        return []
    subword = before[0] if before and before[0] in SUBWORDS.get(command, ()) else ""
    parser = parser_of(command, subword)
    settings = Settings(Library(_folders(before)), before)
    option = _option_before(parser, before)
    if option is not None:
        return _values(option, current, settings)
    if current.startswith("-"):
        return _starting(current, _options(parser))
    return _words(command, parser, words, settings) if not subword else []


def _words(command: str, parser: argparse.ArgumentParser, words: Sequence[str], settings: Settings) -> list[str]:
    """What a word that belongs to no option may be."""
    *before, current = words
    first: list[str] = []
    if all(word.startswith("-") for word in before):
        choices = (action.choices or () for action in parser._actions if not action.option_strings)
        first = [*FIRST.get(command, ()), *map(str, next(choices, ()))]
    return _starting(current, first) + (settings.starting(current) if command in TAKE_SETTINGS else [])


def _folders(words: Sequence[str]) -> list[Path]:
    """The folder of --config-dir."""
    folders = [Path(value).expanduser() for option, value in pairwise(words) if option in ("--config-dir", "-cd")]
    return [folder for folder in folders if folder.is_dir()]


def _option_before(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Action | None:
    """The option that takes the word behind `words`, if one does."""
    distance, word = next(((i, x) for i, x in enumerate(reversed(words), 1) if x.startswith("-")), (0, ""))
    option = parser._option_string_actions.get(word)
    if option is None:
        return None
    # The option takes so many words at most, and the word at hand must be one of these.
    most = option.nargs if isinstance(option.nargs, int) else math.inf if option.nargs in ("+", "*") else 1
    return option if distance <= most else None


def _values(option: argparse.Action, current: str, settings: Settings) -> list[str]:
    """The values of an option, by its choices, its name, or what its help calls them."""
    metavar = option.metavar if isinstance(option.metavar, str) else ""
    if metavar == "KEY=VALUE":
        return settings.starting(current)
    if option.choices:
        return _starting(current, map(str, option.choices))
    values = VALUES.get(option.dest) or VALUES.get(metavar)
    if values is not None:
        return _listed(current, values(settings))
    return _listed(current, metavar.split("|")) if "|" in metavar else []


def _options(parser: argparse.ArgumentParser) -> list[str]:
    names = (max(action.option_strings, key=len) for action in parser._actions if action.option_strings)
    return [name for name in names if name not in HIDDEN]


def _listed(current: str, names: Iterable[str]) -> list[str]:
    """Values that may be several, with commas; of names with slashes only the next part."""
    before, comma, last = current.rpartition(",")
    # A dict keeps the order and drops what several names begin with.
    parts = dict.fromkeys(_up_to_slash(name, len(last)) for name in _starting(last, names))
    return [f"{before}{comma}{part}" for part in parts if part not in before.split(",")]


def _up_to_slash(name: str, typed: int) -> str:
    """The name up to its first slash behind what was typed of it."""
    slash = name.find("/", typed)
    return name if slash < 0 else name[: slash + 1]


def _starting(current: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(current)]


if __name__ == "__main__":
    main()
