"""Words after ttt-run that are no run: `ttt-run clean`, `ttt-run sync`.

An override has a = in it or begins with ~, so a bare word is never one.
"""

from __future__ import annotations

from typing import NoReturn

from ttt.cli.parser import CommandParser
from ttt.config.messages import UsageError


class SubwordParser(CommandParser):
    """Reads what follows the word, and refuses in one line that names it."""

    def __init__(self, word: str, *, about: str) -> None:
        super().__init__(f"ttt-run {word}", about=about)
        self._word = word

    def error(self, message: str) -> NoReturn:
        try:
            super().error(message)
        except ValueError as error:
            raise UsageError(f"{self._word}: {error}") from error
