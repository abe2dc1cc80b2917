"""A table of intervals for a terminal, a page, a paper, or another program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.markup import escape
from rich.table import Table

from ttt.cli.console import Console
from ttt.cli.tables.words import cell_text, detail
from ttt.compare.sheet import Cell, Sheet
from ttt.config.visible import cell as csv_cell

# Columns where no terminal says how many there are.
WIDTH = 140
# Longer words of a header are broken over two lines.
WORD = 10
FORMATS = ("table", "markdown", "latex", "csv", "json")


def print_table(sheet: Sheet, console: Console) -> None:
    """Show `sheet` as people read it, on a console of any width."""
    sheet = sheet.for_people()
    console.print(sheet.headline, markup=False)
    for heads, section in sheet.sections():
        if heads:
            console.print(f"\n{heads}", markup=False, style="bold")
        for block in blocks(section, width=console.width):
            console.print()
            console.print(rich_table(block))
    for note in sheet.notes:
        console.print(f"\n{note}", markup=False, style="dim")


def blocks(sheet: Sheet, *, width: int) -> list[Sheet]:
    """Split the columns into as few tables as fit the terminal, each with all words of its rows."""
    keys = sum(_width(name, [row[0][i] for row in sheet.rows]) for i, name in enumerate(sheet.keys))
    parts: list[list[int]] = [[]]
    left = width - keys
    for j, name in enumerate(sheet.columns):
        lines = [text for _, cells in sheet.rows for text in (cell_text(cells[j]), detail(cells[j]))]
        needed = _width(name, lines)
        # A column that is wider than the terminal still gets a table of its own.
        if parts[-1] and needed > left:
            parts.append([])
            left = width - keys
        parts[-1].append(j)
        left -= needed
    return [
        replace(
            sheet,
            columns=[sheet.columns[j] for j in part],
            rows=[(words, [cells[j] for j in part]) for words, cells in sheet.rows],
        )
        for part in parts
    ]


def _width(name: str, texts: Sequence[str]) -> int:
    """The width of a column, with the space to the next one."""
    return 2 + max(len(text) for text in [*_folded(name).splitlines(), *texts])


def rich_table(sheet: Sheet) -> Table:
    """A block of a sheet as the terminal shows it: a clear best in bold, spread and p below."""
    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False)
    for name in [*sheet.keys, *sheet.columns]:
        table.add_column(escape(_folded(name)), justify="right", overflow="fold")
    for words, cells in sheet.rows:
        table.add_row(*map(escape, words), *map(_rich, cells))
    return table


def _folded(name: str) -> str:
    """Break a name into lines: at slashes, and in long words at dots and underscores."""
    words = name.replace(", ", "\n").split("/")
    return "\n".join(w if len(w) <= WORD else w.replace("_", "_\n", 1).replace(".", ".\n", 1) for w in words)


def _rich(cell: Cell) -> str:
    # The ends of an interval stand in brackets, which are markup too.
    text, more = escape(cell_text(cell)), detail(cell)
    text = f"[bold]{text}[/bold]" if cell.ahead else text
    return f"{text}\n[dim]{more}[/dim]" if more else text


def markdown(sheet: Sheet) -> str:
    """A Markdown table; the best of a column is bold where it is ahead of all others."""

    def text(cell: Cell) -> str:
        shown = " ".join(part for part in (cell_text(cell), f"({detail(cell)})" if detail(cell) else "") if part)
        return f"**{shown}**" if cell.ahead else shown

    lines = [[*sheet.keys, *sheet.columns], ["---"] * (len(sheet.keys) + len(sheet.columns))]
    lines += [[*words, *map(text, cells)] for words, cells in sheet.rows]
    table = "\n".join(f"| {' | '.join(word.replace('|', '/') for word in line)} |" for line in lines)
    return "\n\n".join([table, *sheet.notes])


def comma_separated(records: Sequence[Mapping[str, object]]) -> str:
    """CSV of flat rows, as data frames like it; empty where nothing was measured."""
    out = io.StringIO()
    if records:
        writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in record.items()} for record in records)
    return out.getvalue().rstrip("\n")


def json_text(title: str, records: Sequence[Mapping[str, object]]) -> str:
    return json.dumps({"title": title, "cells": records}, indent=2, ensure_ascii=False)
