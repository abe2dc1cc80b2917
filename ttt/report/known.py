"""What the model knew before the stream: a line for each set, score and mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ttt.report.parts import Table, number_cell, text_cell
from ttt.report.record import Record
from ttt.results import catalogue
from ttt.results.results import Results
from ttt.results.scores import quantity_of

# Other scores are in results.json.
SHOWN = ("loss", "bits_per_byte", "accuracy", "acc_norm", "log_p_right")


class KnownLine(NamedTuple):
    """A score on a set before the stream and when it was measured last; `forgotten`: + is harm."""

    name: str
    quantity: str
    mode: str
    before: float
    final: float
    forgotten: float


def known_lines(results: Results, *, modes: Sequence[str]) -> Iterator[KnownLine]:
    """Yield the lines of all sets; those of one score stand together, in the order of `modes`."""
    for name, scores in results.known_sets.items():
        measured = [mode for mode in modes if mode in scores]
        for quantity in (quantity for quantity in SHOWN if measured and quantity in scores[measured[0]]):
            for mode in measured:
                metrics = (f"{mode}/{quantity}/known_{name}_{moment}" for moment in ("before", "final", "forgetting"))
                numbers = (catalogue.metric(results, metric) for metric in metrics)
                yield KnownLine(name, quantity, mode, *numbers)


def known_table(record: Record) -> Table:
    """Return the lines as a table of a page; it has no rows where nothing was measured."""
    columns = {
        "set": "",
        "score": "",
        "mode": "",
        "before": "before the stream",
        "end": "when it was measured last",
        "forgotten": "how much worse it became; + is harm",
    }
    rows = [
        [text_cell(line.name), text_cell(quantity_of(line.quantity).title, title=line.quantity), text_cell(line.mode)]
        + [number_cell(x) for x in (line.before, line.final, line.forgotten)]
        for line in known_lines(record.results, modes=record.modes)
    ]
    return Table("known", "Scores on what the model knew before the stream", columns, rows)
