"""`ttt-probe documents`: settings side by side, each read on the same documents."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import RenderableType

from ttt.cli.probes.overrides import composed
from ttt.cli.probes.show import decimals, new_table
from ttt.cli.sweeps.grid import split, varied
from ttt.probes.documents import PIECES, DocumentLosses, gain, read_document, with_foreign_beginnings

JOURNAL = "documents.jsonl"


def read_settings(
    words: Sequence[str],
    *,
    foreign: bool,
    config_dir: Path | None,
    out: Path | None,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Return a row for each combination of values in `words`; `foreign`: of the control.

    With `out`, each row is written there as soon as it is measured, and the next command that
    measures the same goes on behind it.
    """
    runs, keys = split(words), varied(words)
    # Rows are told apart by what was typed: other words are measured anew.
    measured = {json.dumps([row["overrides"], row.get("foreign", False)]): row for row in _journal(out)}
    rows = []
    for number, run in enumerate(runs, start=1):
        row = measured.get(json.dumps([run, foreign]))
        if row is None:
            head = f"{number}/{len(runs)}: document"
            row = _measured(run, keys, foreign, config_dir, partial(_report, progress, head))
            if out is not None:
                # The line break comes first: it ends what a killed process left of a line.
                with (out / JOURNAL).open("a") as journal:
                    journal.write("\n" + json.dumps(row))
        rows.append(row)
    return rows


def _measured(
    words: Sequence[str],
    keys: set[str],
    foreign: bool,
    config_dir: Path | None,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Read the documents of one setting: the eval part of each task, with writes off and on."""
    run = composed(words, config_dir=config_dir)
    learner, stream = run.assembly.learner, run.assembly.stream
    if not learner.adapter.initial():
        raise ValueError(f"adapter={learner.adapter.name}: has no fast weights; nothing would differ")
    half = run.assembly.settings.precision == "bf16-mixed"
    off: list[DocumentLosses] = []
    on: list[DocumentLosses] = []
    batches = [task.evaluation() for task in stream.tasks]
    for i, document in enumerate(with_foreign_beginnings(batches) if foreign else batches):
        progress(i + 1, len(batches))
        batch = document.to(run.assembly.settings.device())
        for losses, write in ((off, False), (on, True)):
            read = read_document(learner, batch, write=write, half=half, token_bytes=stream.token_bytes)
            losses.append(read)
    return {
        "overrides": list(words),
        "foreign": foreign,
        "setting": " ".join(word for word in words if word.split("=")[0].lstrip("+") in keys) or "as typed",
        "weights": run.weights,
        "names": [task.name for task in stream.tasks],
        "off": [asdict(losses) for losses in off],
        "on": [asdict(losses) for losses in on],
        **gain(off, on),
    }


def _report(progress: Callable[[str], None], head: str, number: int, of: int) -> None:
    progress(f"{head} {number}/{of}")


def _journal(out: Path | None) -> Iterator[dict[str, Any]]:
    if out is None or not (out / JOURNAL).is_file():
        return
    for line in (out / JOURNAL).read_text().splitlines():
        # Empty, or what a killed process left of a line.
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def show_documents(rows: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """Tabulate the rows: loss in the second half of the documents, and what writes gain there."""
    count = rows[0]["documents"]
    after = ", each behind the first half of another" if rows[0].get("foreign") else ""
    table = new_table(
        f"second half of {count} documents{after}, bits per token; gain: off - on, paired, ± 95 % over documents",
        *("setting", "off", "on", "gain", "±", "better", "off/byte", "on/byte", "exact off", "on"),
        left=1,
    )
    for row in rows:
        table.add_row(
            row["setting"],
            *(decimals(row[key]) for key in ("late_off", "late_on")),
            f"{row['gain']:+.4f}",
            decimals(row["half"], 4),
            f"{row['better']}/{row['documents']}",
            *(decimals(row[key]) for key in ("late_per_byte_off", "late_per_byte_on", "exact_off", "exact_on")),
        )
    return [table]


def plot_documents(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plot what writes gain along the documents, a line for each setting."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        pieces = [value if math.isfinite(value) else math.nan for value in row["pieces"]]
        axes.plot([(p + 0.5) / PIECES for p in range(PIECES)], pieces, label=row["setting"])
    axes.axhline(0, color="k", linewidth=0.8)
    # Settings that destroy the model would hide all others.
    best = max((abs(x) for row in rows for x in row["pieces"] if math.isfinite(x) and row["gain"] > -0.1), default=0.1)
    axes.set(xlabel="place in the document", ylabel="gain of writes, bits per token", ylim=(-1.5 * best, 1.5 * best))
    axes.legend(fontsize=7)
    return figure
