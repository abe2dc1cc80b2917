"""How the commands read their words."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import NoReturn

from ttt.cli.commands import version_line
from ttt.config.messages import suggest

# Around each choice, in the words of argparse.
QUOTE = "'"


class CommandParser(argparse.ArgumentParser):
    """The parser of a command: --version, options only in full, and one line for a wrong word.

    argparse itself would print its whole usage and exit.
    """

    def __init__(self, command: str, *, about: str | None, epilog: str | None = None) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=command, description=about, epilog=epilog, formatter_class=raw, allow_abbrev=False)
        self.add_argument("--version", action="version", version=version_line(), help="print the version of ttt")

    def error(self, message: str) -> NoReturn:
        _, is_unknown, words = message.partition("unrecognized arguments: ")
        if is_unknown:
            options = [max(action.option_strings, key=len) for action in self._actions if action.option_strings]
            raise ValueError(f"{words}: unknown; {suggest(words.split()[0], options)}")
        choice = re.match(r"argument (.+): invalid choice: '(.*)' \(choose from (.+)\)", message)
        if choice:
            name, word, allowed = choice.groups()
            where = f"{name} " if name.startswith("-") else ""
            raise ValueError(f"{where}{word}: unknown; {suggest(word, allowed.replace(QUOTE, '').split(', '))}")
        raise ValueError(f"{message}; see {self.prog} --help")


def check_word(option: str, word: str, allowed: Iterable[str]) -> None:
    """Raise ValueError for a word that the option does not take."""
    if word not in set(allowed):
        raise ValueError(f"{option} {word}: unknown; {suggest(word, allowed)}")
