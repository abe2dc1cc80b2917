"""The console of all commands: no text that it prints can give orders to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from ttt.config.visible import visible


class Console(RichConsole):
    """A console that shows control characters in names and texts as symbols."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable`, each with visible text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def say_error(line: str) -> None:
    """Print a line to stderr, with what it quotes made visible."""
    print(visible(line), file=sys.stderr)
