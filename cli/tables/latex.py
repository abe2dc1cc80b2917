r"""A table for a paper, with the booktabs package.

\begin{table}[t] \centering \caption{...} \label{tab:comparison}
\begin{tabular}{lrr} \toprule ... \bottomrule \end{tabular}
\end{table}
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from ttt.cli.tables.words import cell_text
from ttt.compare.table import Cell, Sheet

LABEL = "tab:comparison"
SPECIAL = {c: "\\" + c for c in "_%&#${}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
SPECIAL |= {"±": r"$\pm$", "<": r"$<$", ">": r"$>$"}
# Characters in a line of a header: columns of numbers are about as wide.
HEAD = 16


def latex(sheet: Sheet, *, caption: str = "", label: str = LABEL) -> str:
    """`sheet` as a table with a caption: by default its title, and what stands below it."""
    spec = "l" * len(sheet.keys) + "r" * len(sheet.columns)
    body = [[*map(escaped, words), *map(_cell, cells)] for words, cells in sheet.rows]
    lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{escaped(caption or _caption(sheet))}}}"]
    lines += [rf"\label{{{label}}}", r"\begin{tabular}{" + spec + "}", r"\toprule"]
    lines += [" & ".join(row) + r" \\" for row in _head_rows([*sheet.keys, *sheet.columns])]
    lines += [r"\midrule", *(" & ".join(row) + r" \\" for row in body)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def escaped(word: str) -> str:
    return "".join(SPECIAL.get(c, c) for c in word).replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _caption(sheet: Sheet) -> str:
    sentences = [sheet.title, *sheet.notes]
    # A sign that no cell shows needs no word.
    if any(cell.ahead for _, cells in sheet.rows for cell in cells):
        sentences.append("Bold: better than every other row, the paired difference leaves out zero")
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


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
