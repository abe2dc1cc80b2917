"""A table of intervals for a terminal, a page, a paper, or another program."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ttt.compare.table import Cell, Sheet

# Columns where no terminal says how many there are.
WIDTH = 140
# Longer words of a header are broken over two lines.
WORD = 10
LATEX = {c: "\\" + c for c in "_%&#${}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
FORMATS = ("table", "markdown", "latex", "csv", "json")


def print_sheet(sheet: Sheet, *, form: str) -> None:
    """Print `sheet` in one of FORMATS."""
    if form != "table":
        print(text_of(sheet, form=form))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        # A file is read by programs: half a number is worse than a long line.
        console.width = max(console.width, WIDTH)
    print_table(sheet, console)


def print_table(sheet: Sheet, console: Console) -> None:
    """Show `sheet` as people read it, on a console of any width."""
    sheet = sheet.for_people()
    console.print(sheet.title, markup=False)
    for heads, section in sheet.sections():
        if heads:
            console.print(f"\n{heads}", markup=False, style="bold")
        for block in blocks(section, width=console.width):
            console.print()
            console.print(rich_table(block))


def text_of(sheet: Sheet, *, form: str) -> str:
    """`sheet` as text in one of FORMATS but the table of the terminal."""
    if form in ("csv", "json"):
        return {"csv": comma_separated, "json": sheet_json}[form](sheet)
    return {"markdown": markdown, "latex": latex}[form](sheet.for_people())


def cell_text(cell: Cell) -> str:
    """mean ± half of the interval or its ends, with * where the interval leaves out zero."""
    mean, half, n, _, ends = cell.interval
    if mean != mean:
        return "-"
    text = f"{mean:{'+' if cell.difference else ''}{_form(mean)}}"
    if n < 2:
        return text
    if ends is None:
        text += f" ±{half:{_form(half)}}"
    elif math.isinf(half):
        # Nothing was gained for certain, so that any ratio agrees with these runs.
        text += " unbounded"
    else:
        text += f" [{ends[0]:{_form(ends[0])}}, {ends[1]:{_form(ends[1])}}]"
    return text + ("*" if cell.resolved else "")


def _form(value: float) -> str:
    """A format: three decimals, but large numbers (tokens, bytes) whole."""
    return ",.0f" if abs(value) >= 10_000 else ".3f"


def detail(cell: Cell) -> str:
    """The second line of a cell: the spread over seeds, and the p of a difference."""
    sd = cell.interval.sd
    words = [f"sd {sd:{_form(sd)}}"] if sd == sd else []
    return " ".join([*words, f"p {cell.p:.3f}"] if cell.p == cell.p else words)


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
    """A block of a sheet as the terminal shows it: best in bold, spread and p below."""
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
    text = f"[bold]{text}[/bold]" if cell.best else text
    return f"{text}\n[dim]{more}[/dim]" if more else text


def markdown(sheet: Sheet) -> str:
    """A Markdown table; the best of a column is bold."""

    def text(cell: Cell) -> str:
        shown = " ".join(part for part in (cell_text(cell), f"({detail(cell)})" if detail(cell) else "") if part)
        return f"**{shown}**" if cell.best else shown

    lines = [[*sheet.keys, *sheet.columns], ["---"] * (len(sheet.keys) + len(sheet.columns))]
    lines += [[*words, *map(text, cells)] for words, cells in sheet.rows]
    return "\n".join(f"| {' | '.join(word.replace('|', '/') for word in line)} |" for line in lines)


def latex(sheet: Sheet) -> str:
    r"""A booktabs table: \usepackage{booktabs}."""
    head = [_latex(name) for name in [*sheet.keys, *sheet.columns]]
    body = [[*map(_latex, words), *(_latex_cell(cell) for cell in cells)] for words, cells in sheet.rows]
    spec = "l" * len(sheet.keys) + "r" * len(sheet.columns)
    lines = [r"\begin{tabular}{" + spec + "}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in body]
    return "\n".join(["% " + sheet.title, *lines, r"\bottomrule", r"\end{tabular}"])


def _latex_cell(cell: Cell) -> str:
    # In a formula a comma is punctuation, with a space behind it; in 12,345 it is a character.
    text = re.sub(r",(?=\d)", "{,}", cell_text(cell)).replace(" ±", r" \pm ").replace("*", r"^{*}")
    text = text.replace(" unbounded", r"\ \mathrm{unbounded}")
    if text == "-":
        return "--"
    return rf"$\mathbf{{{text}}}$" if cell.best else f"${text}$"


def _latex(word: str) -> str:
    return "".join(LATEX.get(c, c) for c in word)


def comma_separated(sheet: Sheet) -> str:
    """CSV with a row for each cell, as data frames like it; empty where nothing was measured."""
    out = io.StringIO()
    records = sheet.records()
    if records:
        writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return out.getvalue().rstrip("\n")


def sheet_json(sheet: Sheet) -> str:
    return json.dumps({"title": sheet.title, "cells": sheet.records()}, indent=2, ensure_ascii=False)
