"""The table of `ttt-check`: promise, kept or not, and the first counterexample."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ttt.promises.ruling import Ruling

WORDS = {True: "yes", False: "[bold red]NO[/]", None: "-"}


def show_rulings(part: str, rulings: Mapping[str, Ruling]) -> Table:
    table = Table(title=part, title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("promise", no_wrap=True)
    table.add_column("kept", no_wrap=True)
    table.add_column("how it broke, or why it was not given", overflow="fold")
    for words, ruling in rulings.items():
        table.add_row(words, WORDS[ruling.holds], ruling.why)
    return table
