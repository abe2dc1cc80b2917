"""What the pages of the docs hold: blocks of code, command lines, links and headings."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(\s*)```(\w*)(?: title=\"([^\"]+)\")?\s*$")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
COMMAND = re.compile(r"ttt-(run|compare|report|probe|check|bench|export)$")


def pages() -> list[Path]:
    """The README, its neighbours, and all pages of the docs that are written by hand."""
    docs = ROOT / "docs"
    return [
        ROOT / "README.md",
        *(path for path in sorted(docs.rglob("*.md")) if docs / "reference" not in path.parents),
    ]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """Code of a page. `language` is empty where the code is only indented."""

    language: str
    title: str
    text: str


def blocks(text: str) -> Iterator[Block]:
    """Fenced and indented code, in order."""
    lines = iter(text.splitlines())
    indented: list[str] = []
    for line in lines:
        fence = FENCE.match(line)
        if not fence and (line.startswith("    ") or (indented and not line.strip())):
            indented.append(line)
            continue
        if indented:
            yield Block("", "", textwrap.dedent("\n".join(indented)))
            indented = []
        if fence:
            end = f"{fence[1]}```"
            inside = list(iter(lambda end=end: _unless(next(lines), end), None))
            yield Block(fence[2], fence[3] or "", textwrap.dedent("\n".join(inside)) + "\n")
    if indented:
        yield Block("", "", textwrap.dedent("\n".join(indented)))


def _unless(line: str, end: str) -> str | None:
    return None if line == end else line


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each command of ours. `...` stands for words that the reader fills in."""
    for block in blocks(text):
        if block.language not in ("", "bash"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if "ttt-" in line and "$" not in line:
                for part in re.split(r"&&|; ", re.split(r"\s#", line)[0]):
                    words = _words(part)
                    if words and COMMAND.match(words[0]):
                        yield [word for word in words if not word.endswith("...") or "/" in word]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        # Prose in an indented block, with an apostrophe.
        return []


def links(text: str) -> list[str]:
    """The targets of links that stay inside the project."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return [target for target in LINK.findall(prose) if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The names of the headings of a page, as the site makes them."""
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in HEADING.findall(text)}
