"""What a longer context is worth to the run, where `ttt-probe context` left its numbers.

ttt-probe context RUN --out RUN/probes/context
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttt.report.parts import PageCell, Table, number_cell, text_cell
from ttt.report.record import Record
from ttt.storage.whole import read_object

FILE = Path("probes") / "context" / "probe.json"


def context_table(record: Record) -> Table:
    """Return a row for each length, of questions also for each depth; no rows without a probe."""
    numbers = _numbers(record.folder / FILE)
    rows: Sequence[Mapping[str, Any]] = numbers.get("asked") or numbers.get("block") or []
    modes = numbers["settings"]["modes"] if rows else []
    # Only questions have answers, and a place in the text where these stand.
    exact = [mode for mode in modes if f"{mode}_exact" in rows[0]]
    columns = {"length": "tokens of the context", "window": "does attention see what is asked?"}
    columns |= {"where": "the part of the text in which the answer stands"} if exact else {}
    columns |= {mode: "bits per token" for mode in modes}
    columns |= {f"{mode} gain": "slow - mode, ± 95 % over rows" for mode in modes if mode != "slow"}
    columns |= {f"{mode} exact": "rows that are right when the model writes the answer itself" for mode in exact}
    what = "answers" if exact else f"the last {numbers['settings']['block']} tokens" if rows else ""
    return Table("context", f"Loss of {what} behind contexts of several lengths", columns, [*map(_cells, rows)])


def _numbers(file: Path) -> dict[str, Any]:
    """What the probe left; nothing where it left no file, or one that cannot be read."""
    # A page is not worth less for a probe that was interrupted.
    try:
        content = read_object(file, {"probe": str, "settings": dict}) if file.is_file() else {}
    except ValueError:
        return {}
    return content if content.get("probe") == "context" else {}


def _cells(row: Mapping[str, Any]) -> list[PageCell]:
    modes = [name.removesuffix("_us") for name in row if name.endswith("_us")]
    gains = [_gain(row, mode) for mode in modes if mode != "slow"]
    exact = [number_cell(_number(row[f"{mode}_exact"])) for mode in modes if f"{mode}_exact" in row]
    where = [text_cell(row["where"])] if "where" in row else []
    losses = [number_cell(_number(row[mode])) for mode in modes]
    return [number_cell(row["length"]), text_cell(row["seen"]), *where, *losses, *gains, *exact]


def _gain(row: Mapping[str, Any], mode: str) -> PageCell:
    mean, half = _number(row[f"{mode}_gain"]), _number(row[f"{mode}_half"])
    return PageCell(f"{mean:+.3f} ± {half:.3f}", value=repr(mean))


def _number(value: float | None) -> float:
    # JSON has no NaN.
    return math.nan if value is None else value
