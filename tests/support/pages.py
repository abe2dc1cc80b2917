"""Pages of ttt-report as a test reads them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from commands import typed
from harness import Outcome

from ttt.cli.report import main
from ttt.report.one import write_run

# Tags that have no end.
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """A page's tags, text and tables; fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self._table = attributes.get("id") or f"table {len(self.tables)}"
            self.tables[self._table] = []
        if tag == "tr":
            self.tables[self._table].append([])
        if tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.text += data
        if "table" in self.open and {"td", "th"} & set(self.open):
            self.tables[self._table][-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(run: Path) -> Page:
    return Page(write_run(run).read_text())


def cell_classes(page: str, name: str) -> list[list[str]]:
    """Return the classes of the cells of one heat map, row by row."""
    figure = page[page.index(f'id="{name}"') :]
    figure = figure[: figure.index("</figure>")]
    return [re.findall(r'<td class="([^"]*)"', row) for row in figure.split("<tr>")[2:]]


def report(*words: object, cwd: Path | None = None) -> Outcome:
    """Type `ttt-report WORDS` in `cwd`."""
    return typed(main, "ttt-report", *words, cwd=cwd)
