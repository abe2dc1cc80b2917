"""What a run that is done shows. Loads no torch: a run that was done before prints at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttt.cli.console import Console
from ttt.cli.runs.display import Display
from ttt.cli.runs.tables import beside_r, known_sets_table, matrix_table, metric_table, time_line, without_numbers
from ttt.compare.published import values_about
from ttt.results import catalogue
from ttt.results.results import Results
from ttt.results.scores import MEANINGS, quantity_of
from ttt.run.recall import Place, recall_done
from ttt.storage.read import read_config, read_results
from ttt.storage.run_folder import RunFolder


def say(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, markup=False, soft_wrap=True)


def show_recalled(config: Mapping[str, Any], *, trusted: Sequence[Path], display: Display) -> Place | None:
    """Show the run of a composed config if it is done, and its data and code are as they were.

    Return its place, or None where the run must be built to know.
    """
    place = recall_done(config, trusted=trusted)
    if place is None:
        return None
    show_finished(Console(highlight=False, quiet=display.quiet), RunFolder(place.folder), code=place.code)
    return place


def show_finished(console: Console, folder: RunFolder, *, code: str) -> None:
    """Show a run that was done before; `code`: the hash of today's code."""
    say(console, "this run is already done; here is its result")
    if Place(folder.path, code).is_of_other_code:
        say(console, f"it was measured with other code; to measure again, delete {folder.path}")
    show_results(console, read_results(folder.path), folder)


def show_results(console: Console, results: Results, folder: RunFolder, *, where: str | None = None) -> None:
    """Show R, the metrics, and where the files are; `where`: the tracker's line."""
    mode, quantity = results.headline.split("/")
    scored = quantity_of(quantity)
    say(
        console,
        f"\nR: {scored.label} in {scored.unit} on each task (column) after learning each task (row), mode {mode}; "
        "dim: not yet learned, -: not measured",
    )
    console.print(matrix_table(results.matrix(mode, quantity), learned_at=results.learned_at))
    say(console, f"\nmetrics ({results.scenario}-incremental), in each mode:")
    for name in results.modes:
        say(console, f"  {name:<10}{MEANINGS[results.used][name]}")
    console.print(metric_table(results))
    for line in without_numbers(results):
        say(console, line)
    if results.known_sets:
        say(console, "\nwhat the model knew before the stream, at its end; in brackets what it forgot (+ is harm):")
        console.print(known_sets_table(results))
    for value in values_about(read_config(folder.path)):
        ours = catalogue.metric(results, value.metric)
        spread = "" if math.isnan(value.sd) else f" ± {value.sd:.4f} (sd)"
        say(console, f"\npublished {value.metric} {value.mean:.4f}{spread}, here {ours:.4f}: {value.source}")
    for line in beside_r(results):
        say(console, line)
    say(console, time_line(results, folder.status()))
    say(console, f"results  {folder.results}")
    if folder.report.is_file():
        say(console, f"report   {folder.report}")
    if where:
        say(console, where)
