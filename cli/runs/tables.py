"""What came out of a run, as tables and lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from rich.table import Table

from ttt.config.messages import counted
from ttt.metrics.matrix import Matrix, Rows
from ttt.report.text import HEADLINE, PEERS, SHOWN_QUANTITIES
from ttt.results import catalogue
from ttt.results.results import Results
from ttt.results.scores import quantity_of

# Shown below the headline if they were measured.
BEYOND = {
    "inside": (
        "fast/loss/min_acc",
        "fast/loss/gap_depth",
        "fast/loss/gap_lasting",
        "fast/loss/steps_to_criterion",
        "fast/loss/savings_slow",
    ),
    "units": (
        "slow/plasticity/dormant_tau0.1",
        "slow/plasticity/erank",
        "slow/plasticity/weight_l2",
        "slow/drift/kl_base",
        "fast/drift/kl_base",
    ),
}


def beside_r(results: Results) -> Iterator[str]:
    """Yield a line of metrics for each kind that was measured."""
    measured = set(catalogue.names(results))
    for word, metrics in BEYOND.items():
        values = [(name, catalogue.metric(results, name)) for name in metrics if name in measured]
        if values:
            yield f"{word:<9}{', '.join(f'{_named(name)} {value:.3f}'.replace('nan', '-') for name, value in values)}"


def _named(name: str) -> str:
    """The label of a metric; drift is shown in two modes, which have to be told apart."""
    mode, quantity, _ = name.split("/")
    return f"{catalogue.label(name)}, {mode}" if quantity == "drift" else catalogue.label(name)


def time_line(results: Results, status: Mapping[str, Any]) -> str:
    """Evaluation's share of the run's time.

    Evaluation grows with the square of the number of tasks.
    """
    seconds, evaluation = (float(status.get(name, math.nan)) for name in ("seconds", "evaluation_seconds"))
    tasks, rows = len(results.tasks), len(results.rows)
    full = sum(len(row["columns"]) for row in results.rows) == tasks * rows
    return (
        f"\ntime     stream {seconds:.0f} s, of which evaluation {evaluation:.0f} s ({evaluation / seconds:.0%}): "
        f"{'' if full else 'some of '}{counted(tasks, 'task')} x {rows} rows; thin it with eval.every or eval.tasks"
    )


def matrix_table(r: Matrix, *, learned_at: Rows) -> Table:
    """R with a row after each phase; cells of tasks that are not yet learned are dim.

    Many tasks and many rows are thinned to ten.
    """
    phases, tasks = r.shape[0] - 1, r.shape[1]
    shown = sorted({round(i * (tasks - 1) / 9) for i in range(10)}) if tasks > 10 else list(range(tasks))
    rows = shown if phases == tasks else sorted({round(i * (phases - 1) / 9) for i in range(10)})
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("after", justify="right")
    for j in shown:
        table.add_column(f"{j + 1}", justify="right")
    for i in [0, *(p + 1 for p in rows)]:
        cells = [f"{r[i, j]:.2f}".replace("nan", "-") for j in shown]
        dim = (cell if learned_at[j] <= i else f"[dim]{cell}[/dim]" for j, cell in zip(shown, cells, strict=True))
        table.add_row(str(i), *dim)
    return table


def known_sets_table(results: Results) -> Table:
    """What the model knew before, scored at the end; in brackets what it forgot of it."""
    # Imported here: pages bring matplotlib along.
    from ttt.report.known import known_lines

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for column in ("set", "score"):
        table.add_column(column)
    for mode in results.modes:
        table.add_column(mode, justify="right")
    for (name, quantity), lines in groupby(known_lines(results, modes=results.modes), key=lambda line: line[:2]):
        cells = {line.mode: f"{line.final:.3f} ({line.forgotten:+.3f})" for line in lines}
        table.add_row(name, quantity, *(cells.get(mode, "-").replace("nan", "-") for mode in results.modes))
    return table


def _metric_lines(results: Results, quantity: str) -> Iterator[tuple[str, ...]]:
    """What a metric is called, its key, and its value in each mode."""
    for key in _keys(results):
        values = [catalogue.metric(results, f"{mode}/{quantity}/{key}") for mode in results.modes]
        if not all(map(math.isnan, values)):
            label = catalogue.label(f"{results.modes[0]}/{quantity}/{key}")
            # Adding zero turns -0.0 into 0.0.
            yield f"  {label}", key, *(f"{round(value, 3) + 0.0:.3f}".replace("nan", "-") for value in values)
    gain = catalogue.metric(results, f"fast_gain/{quantity}/avg_final")
    if not math.isnan(gain):
        yield "  gain of fast over slow", "fast_gain", "", f"{gain:.3f}"
    if quantity == "loss" and np.isfinite(results.entropy).all():
        regret = (catalogue.metric(results, f"{mode}/regret/avg_final") for mode in results.modes)
        yield "  above the entropy, at the end", "regret", *(f"{value:.3f}" for value in regret)


def metric_table(results: Results) -> Table:
    """The headline metrics: a column for each mode, a block for each quantity.

    What has no number is left out, a block too; `without_numbers` says why.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("")
    table.add_column("metric", style="dim")
    for mode in results.modes:
        table.add_column(mode, justify="right")
    for quantity in (quantity for quantity in SHOWN_QUANTITIES if quantity in results.quantities):
        lines = list(_metric_lines(results, quantity))
        if lines:
            table.add_row(f"[bold]{quantity_of(quantity).title}[/bold]")
        for line in lines:
            table.add_row(*line)
    return table


def _keys(results: Results) -> tuple[str, ...]:
    return (*HEADLINE, *(PEERS if results.references else ()))


def without_numbers(results: Results) -> Iterator[str]:
    """Yield a line for each reason why the table has no row of a headline metric."""
    reasons: dict[str, list[str]] = {}
    for key in _keys(results):
        names = [f"{mode}/{quantity}/{key}" for quantity in results.quantities for mode in results.modes]
        if all(math.isnan(catalogue.metric(results, name)) for name in names):
            reasons.setdefault(catalogue.why(results, names[0]), []).append(key)
    for reason, keys in reasons.items():
        yield f"no number for {', '.join(keys)}: {reason}"
