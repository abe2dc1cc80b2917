"""Benchmark results as lines and tables on the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from rich.table import Table

from ttt.cli.benches.timing import Row, ratio
from ttt.cli.console import Console

# Widths of the columns that hold words; a column of numbers is as wide as its name.
WORD_WIDTHS = {
    "B x T": 9,
    "D, F": 9,
    "form": 40,
    "adapter": 12,
    "strategy": 19,
    "task": 18,
    "source": 10,
    "bases x seeds": 13,
    "metric": 18,
    "what": 13,
    "side": 25,
    "bench": 10,
    "command": 14,
}


def harness_table(seconds: dict[str, list[float]]) -> Table:
    """Tabulate the seconds of each side beside their ratio to the side `bare`."""
    table = Table("side", "median s", "over bare (min, median, max)", title="the main job's training steps", box=None)
    for name, times in seconds.items():
        over = ratio(times, seconds["bare"])
        table.add_row(name, f"{statistics.median(times):.3f}", f"{over.low:.3f} {over.median:.3f} {over.high:.3f}")
    return table


def print_rows(console: Console, title: str, rows: Iterable[Row]) -> None:
    """Print each row as soon as it is measured; a row with the key `why not` is a plain sentence.

    Minutes may pass between two rows, and a user who stops early still has the rows before.
    """
    console.print(title)
    widths: dict[str, int] = {}
    for row in rows:
        if "why not" in row:
            console.print(" ".join(str(value) for value in row.values()), soft_wrap=True)
            continue
        if not widths:
            widths = {name: WORD_WIDTHS.get(name, max(len(name), 8)) for name in row}
            _print_line(console, {name: name for name in row}, widths)
        cells = {name: f"{x:.2f}" if isinstance(x, float) else x for name, x in row.items()}
        _print_line(console, cells, widths)


def _print_line(console: Console, cells: dict[str, str], widths: dict[str, int]) -> None:
    line = "  ".join(cells.get(name, "").rjust(width) for name, width in widths.items())
    # A soft wrap leaves the line whole, so that it survives a pipe into a file.
    console.print(line, soft_wrap=True)
