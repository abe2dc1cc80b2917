"""Words after ttt-run that are no run: `ttt-run clean`, `ttt-run sync`.

An override has a = in it or begins with ~, so a bare word is never one.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from ttt.config.messages import UsageError


class SubwordParser(argparse.ArgumentParser):
    """Reads what follows the word, and refuses in one line."""

    def __init__(self, word: str, *, about: str) -> None:
        super().__init__(
            prog=f"ttt-run {word}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._word = word

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self._word}: {message}; see ttt-run {self._word} --help")
