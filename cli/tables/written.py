"""Where the tables of ttt-compare go: to the terminal or to a file, one for each stream."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ttt.cli.console import Console
from ttt.cli.parser import check_word
from ttt.cli.tables.formats import FORMATS, WIDTH, comma_separated, json_text, markdown, print_table
from ttt.cli.tables.latex import LABEL, latex, sentence
from ttt.cli.tables.views import TableView
from ttt.compare.groups import Group
from ttt.compare.long import run_records
from ttt.compare.names import Names
from ttt.compare.sheet import Sheet
from ttt.config.messages import show

FORMS = (*FORMATS, "long")
# The suffix of a file -> its form, unless another is typed.
SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex", ".txt": "table", ".parquet": "csv"}
Records = Sequence[Mapping[str, object]]


class Comparison(NamedTuple):
    """What is shown of a stream, and the groups behind it: none beside published values or claims.

    `stream`: its name; `where`: how to pick it.
    """

    view: TableView
    groups: Sequence[Group]
    stream: str = ""
    where: str = ""
    names: Names = Names()


def form_of(typed: argparse.Namespace) -> str:
    """The form that was typed, by name or by suffix. Raises ValueError for what does not fit."""
    suffix = typed.to.suffix if typed.to else ""
    if typed.to and suffix not in SUFFIXES:
        raise ValueError(f"--to {typed.to}: must end in one of {', '.join(SUFFIXES)}")
    form: str = typed.format or SUFFIXES.get(suffix, "table")
    check_word("--format", form, FORMS)
    for option in ("caption", "ref"):
        if getattr(typed, option) and form != "latex":
            raise ValueError(f"--{option}: goes with --format latex")
    if suffix == ".parquet" and form not in ("csv", "long"):
        raise ValueError(f"--format {form}: a .parquet holds rows; long is one for each run and metric")
    if form == "long" and any((typed.frontier, typed.per_task, typed.curve, typed.published, typed.claims)):
        raise ValueError("--format long: holds metrics of runs, so it goes with the table of groups alone")
    return form


def write(comparisons: Sequence[Comparison], typed: argparse.Namespace, *, form: str) -> None:
    """Print the tables, or write them to the file that was typed.

    Raises ValueError where that cannot be.
    """
    if not typed.to:
        console = Console(highlight=False)
        if not console.is_terminal:
            # A file is read by programs: half a number is worse than a long line.
            console.width = max(console.width, WIDTH)
        _print(comparisons, typed, form=form, console=console)
        return
    try:
        if typed.to.suffix == ".parquet":
            write_parquet(records_of(comparisons, form=form), typed.to)
            return
        with typed.to.open("w", encoding="utf-8") as file:
            _print(comparisons, typed, form=form, console=Console(file=file, width=WIDTH, highlight=False))
    except OSError as error:
        raise ValueError(f"--to {typed.to}: {error.strerror or error}") from error


def written_files(typed: argparse.Namespace) -> list[Path]:
    """The files that the call wrote: the table, the picture, and the numbers of the picture."""
    plotted = [typed.plot, typed.plot.with_suffix(".csv")] if typed.plot else []
    return [*([typed.to] if typed.to else []), *plotted]


def _print(comparisons: Sequence[Comparison], typed: argparse.Namespace, *, form: str, console: Console) -> None:
    if form == "table":
        for comparison in comparisons:
            _heading(comparison, comparisons, console)
            print_table(renamed(comparison), console)
        return
    words = {"caption": typed.caption or "", "label": typed.ref or LABEL}
    console.file.write(text(comparisons, form=form, **words) + "\n")


def _heading(comparison: Comparison, every: Sequence[Comparison], console: Console) -> None:
    if len(every) > 1:
        space = "" if comparison is every[0] else "\n\n"
        pick = f"  ({comparison.where})" if comparison.where else ""
        console.print(f"{space}{comparison.stream}{pick}", markup=False, style="bold", soft_wrap=True)


def renamed(comparison: Comparison, *, readable: bool = False) -> Sheet:
    """The table with the names that were typed; `readable`: and without keys of configs."""
    names = comparison.names.as_readable() if readable else comparison.names
    return names.on(comparison.view.sheet, comparison.groups)


def text(comparisons: Sequence[Comparison], *, form: str, caption: str = "", label: str = LABEL) -> str:
    """The tables as text in one form but that of the terminal; a latex table has the last two."""
    if form in ("csv", "long"):
        return comma_separated(records_of(comparisons, form=form))
    if form == "json":
        title = "; ".join(comparison.view.sheet.headline for comparison in comparisons)
        return json_text(title, records_of(comparisons, form=form))
    several = len(comparisons) > 1
    parts = []
    for number, comparison in enumerate(comparisons, start=1):
        sheet = renamed(comparison, readable=form == "latex").for_people()
        if form == "markdown":
            heading = f"### {comparison.stream}\n\n" if several else ""
            parts.append(heading + markdown(sheet))
            continue
        mark, stream = (f"-{number}", f" ({comparison.stream})") if several else ("", "")
        words = caption + stream if caption else sentence(sheet.title + stream)
        parts.append(latex(sheet, caption=words, label=label + mark))
    return "\n\n".join(parts)


def records_of(comparisons: Sequence[Comparison], *, form: str) -> list[dict[str, object]]:
    """Flat rows of all streams, with equal keys; what a stream does not have is None."""
    records: list[dict[str, object]] = []
    for comparison in comparisons:
        sheet = comparison.view.sheet
        rows = run_records(comparison.groups, comparison.view.metrics) if form == "long" else sheet.records()
        records += [{"stream": comparison.stream, **row} for row in rows] if len(comparisons) > 1 else rows
    # A dict keeps the order in which keys first appear.
    keys = list(dict.fromkeys(key for record in records for key in record))
    return [{key: record.get(key) for key in keys} for record in records]


def write_parquet(records: Records, file: Path) -> None:
    # Imported here: a table alone appears at once.
    import pandas as pd

    frame = pd.DataFrame.from_records(records)
    for column in frame:
        kinds = {type(value) for value in frame[column] if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            # A column of a file has one type: values are written as one would type them.
            frame[column] = [None if value is None else show(value) for value in frame[column]]
    frame.to_parquet(file, index=False)
