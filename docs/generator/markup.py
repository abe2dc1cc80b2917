"""Plain text as Markdown: what would be markup is shown as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"([*_\[\]<>\\$])")


def escaped(text: str) -> str:
    """Text outside of backticks with its special characters escaped."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") and len(part) > 1 else SPECIAL.sub(r"\\\1", part) for part in parts)


def code(text: str) -> str:
    """Text as code; nothing for no text."""
    return f"`{text}`" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold several lines."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(text) for text in line) + " |\n" for line in lines) + "\n"


def paragraphs(text: str) -> str:
    """A docstring or an explanation: prose is escaped, indented lines become code."""
    blocks = []
    for block in re.split(r"\n\s*\n|\n(?=  )", text.strip("\n")):
        indented = block.startswith("  ")
        if indented and blocks and blocks[-1].startswith("    "):
            blocks[-1] += f"\n  {block}"
        else:
            blocks.append(f"  {block}" if indented else escaped(block))
    return "\n\n".join(blocks) + "\n\n"


def _cell(text: str) -> str:
    # A row of a list inside an explanation begins with two spaces.
    return text.replace("|", "\\|").replace("\n  ", "<br>• ").replace("\n", " ")
