"""`ttt.compare`: the command `ttt-compare`, called from Python."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ttt.cli.compare import compare as choose
from ttt.cli.compare import only_stream
from ttt.cli.console import Console
from ttt.cli.tables.formats import FORMATS, WIDTH, markdown, print_table
from ttt.cli.tables.options import compare_options
from ttt.cli.tables.written import Comparison, text
from ttt.compare.runs import find_runs
from ttt.compare.sheet import Sheet
from ttt.config.messages import UsageError, suggest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """A comparison of runs: means over seeds with intervals. A notebook shows it as a table."""

    comparison: Comparison

    @property
    def sheet(self) -> Sheet:
        """Its words and intervals, with keys and metrics as one types them."""
        return self.comparison.view.sheet

    def __str__(self) -> str:
        with io.StringIO() as output:
            # As a text it has no terminal, whose width and colours would depend on who looks.
            print_table(self.sheet, Console(file=output, width=WIDTH))
            return output.getvalue()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return f"{self.sheet.headline}\n\n{markdown(self.sheet.for_people())}"

    def to(self, form: str) -> str:
        """The table as text. Raises UsageError for a `form` that is not one of ttt-compare's."""
        if form not in FORMATS[1:]:
            raise UsageError(f"form={form!r}: unknown; {suggest(form, FORMATS[1:])}")
        return text([self.comparison], form=form)

    def to_frame(self) -> pd.DataFrame:
        """A line for each cell: mean, sd, low, high, n, p, and whether it leaves out zero."""
        import pandas as pd

        return pd.DataFrame.from_records(self.sheet.records())


def compare(
    folders: str | Path | Iterable[str | Path] = "outputs",
    *,
    metrics: str | Sequence[str] = (),
    where: str | Sequence[str] = (),
    baseline: str | None = None,
    frontier: str | bool = False,
) -> Table:
    """Compare finished runs as `ttt-compare` does, with its words for every argument.

    A string is a list of one. `frontier=True`: learning against forgetting over learning rates, or
    over the key that it names. Raises UsageError for what cannot be compared.
    """
    words = _words(folders)
    words += ["--metrics", *_words(metrics)] if metrics else []
    words += ["--where", *_words(where)] if where else []
    words += ["--baseline", baseline] if baseline else []
    words += ["--frontier", *([frontier] if isinstance(frontier, str) else [])] if frontier else []
    # The command's own parser, so that its words mean the same here.
    try:
        typed = compare_options(words)
        shown = choose(typed, find_runs(typed.runs))
        return Table(only_stream(shown, "ttt.compare"))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _words(typed: str | Path | Iterable[str | Path]) -> list[str]:
    return [str(typed)] if isinstance(typed, str | Path) else [str(word) for word in typed]
