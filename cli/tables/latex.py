r"""A table for a paper, with the booktabs package.

\begin{table}[t] \centering \caption{...} \label{tab:comparison}
\begin{tabular}{lrr} \toprule ... \bottomrule \end{tabular} ...
\end{table}
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from ttt.cli.tables.words import cell_text
from ttt.compare.sheet import Cell, Sheet

LABEL = "tab:comparison"
SPECIAL = {c: "\\" + c for c in "_%&#${}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
SPECIAL |= {"±": r"$\pm$", "<": r"$<$", ">": r"$>$"}
# Characters in a line of a header: columns of numbers are about as wide.
HEAD = 16


def latex(sheet: Sheet, *, caption: str, label: str) -> str:
    """`sheet` as a table; below it stands how to read it, whatever its caption is."""
    sheet, single_p = _without_single_p(sheet)
    sections = sheet.sections()
    keys = [key for key in sheet.keys if key not in sheet.heads]
    width = len(keys) + len(sheet.columns)
    lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}"]
    lines += [r"\begin{tabular}{" + "l" * len(keys) + "r" * len(sheet.columns) + "}", r"\toprule"]
    lines += [" & ".join(row) + r" \\" for row in _head_rows([*keys, *sheet.columns])]
    for heads, section in sections:
        lines += [r"\midrule", *([rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escaped(heads)}}}}} \\"] if heads else [])]
        lines += [" & ".join([*map(escaped, words), *map(_cell, cells)]) + r" \\" for words, cells in section.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    reading = " ".join(escaped(sentence(phrase)) for phrase in [*_reading(sheet), *single_p])
    # Not in the caption, which is the author's, and would lose it.
    lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"] if reading else []
    lines += [reading, r"\end{minipage}"] if reading else []
    return "\n".join([*lines, r"\end{table}"])


def escaped(word: str) -> str:
    text = "".join(SPECIAL.get(c, c) for c in word).replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")
    return re.sub(r"(\d+/)?(\d+)\\\^\{\}(\d+)", r"$\1\2^{\3}$", text)


def _without_single_p(sheet: Sheet) -> tuple[Sheet, list[str]]:
    """The sheet without a p that all differences share, and a phrase that says it once."""
    cells = [cell for _, cells in sheet.rows for cell in cells if cell.p == cell.p]
    if len(cells) < 2 or len({f"{cell.p:.3f}" for cell in cells}) > 1:
        return sheet, []
    rows = [(words, [replace(cell, p=math.nan) for cell in cells]) for words, cells in sheet.rows]
    return replace(sheet, rows=rows), [f"In all {len(cells)} differences p is {cells[0].p:.4g}"]


def _reading(sheet: Sheet) -> list[str]:
    """How to read the cells, and what to know of them, in phrases."""
    # A sign that no cell shows needs no word.
    is_bold = any(cell.ahead for _, cells in sheet.rows for cell in cells)
    bold = ["Bold: better than every other row, the paired difference leaves out zero"] if is_bold else []
    return [*sheet.legend, *bold, *sheet.notes]


def sentence(phrase: str) -> str:
    return f"{phrase[:1].upper()}{phrase[1:]}."


def _head_rows(names: Sequence[str]) -> list[list[str]]:
    """Names broken into as many rows as the longest needs; short ones stand at the bottom."""
    # Lines are reversed before and after: zip_longest fills up at the end, and short names have to
    # be filled up at the top.
    broken = [[escaped(line) for line in textwrap.wrap(name, HEAD) or [""]][::-1] for name in names]
    return [list(row) for row in zip_longest(*broken, fillvalue="")][::-1]


def _cell(cell: Cell) -> str:
    # In a formula a comma is punctuation, with a space behind it; in 12,345 it is a character.
    text = re.sub(r",(?=\d)", "{,}", cell_text(cell)).replace(" ±", r" \pm ").replace("*", r"^{*}")
    text = text.replace(" unbounded", r"\ \mathrm{unbounded}")
    if text == "-":
        return "--"
    p = f" ($p = {cell.p:.3f}$)" if cell.p == cell.p else ""
    return (rf"$\mathbf{{{text}}}$" if cell.ahead else f"${text}$") + p
