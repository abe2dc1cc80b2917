"""The tables of one run: headline, tasks, costs, environment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttt.config.visible import visible
from ttt.metrics.matrix import Matrix
from ttt.report.parts import PageCell, Table, number_cell, text_cell
from ttt.report.record import Record
from ttt.report.text import HEADLINE, PEERS, SHOWN_QUANTITIES, UNDEFINED, duration, number, thin
from ttt.results import catalogue
from ttt.results.scores import MEANINGS, quantity_of

# At most this many rows, and this many characters of a fingerprint.
TASKS, PRINT = 100, 16
# Those of the headline, with the slope that hard tasks do not bend beside the plain one.
SLOPE = HEADLINE.index("learning_slope") + 1
ROWS = (*HEADLINE[:SLOPE], "gained_slope", *HEADLINE[SLOPE:])
HARDWARE = ("device", "threads", "cpu_count", "platform", "git")


@dataclass(frozen=True)
class Big:
    """A number that stands alone at the top of the page; `sign` says which way is good."""

    text: str
    unit: str
    name: str
    sign: str
    metric: str


def big_numbers(record: Record) -> list[Big]:
    """Return up to five headline numbers, leaving out those that are undefined."""
    if not record.seen.tasks:
        return []
    quantity = record.results.headline.split("/")[1]
    first = f"{record.main_mode}/{quantity}"
    gain = [f"fast_gain/{quantity}/avg_final"] if record.has_fast else []
    metrics = [f"{first}/{name}" for name in ("avg_learning", "avg_final", record.forgetting)]
    metrics += [*gain, f"{first}/fwt_b_row0"]
    return [
        Big(number(x), catalogue.unit_of(metric), catalogue.title(metric), catalogue.side(metric), metric)
        for metric in metrics
        if math.isfinite(x := record.metric(metric))
    ]


def headline_tables(record: Record) -> list[Table]:
    """Return a table of metrics by mode for each quantity."""
    modes = record.modes
    columns = {"metric": ""} | {mode: f"mode {mode}: {MEANINGS[record.results.used][mode]}" for mode in modes}
    return [
        Table(f"headline-{key}", quantity_of(key).title, columns, metric_rows(record, key))
        for key in SHOWN_QUANTITIES
        if key in record.results.quantities
    ]


def has_number(row: Sequence[PageCell]) -> bool:
    return any(cell.numeric and cell.text != UNDEFINED for cell in row)


def metric_rows(record: Record, quantity: str) -> list[list[PageCell]]:
    modes = record.modes
    # Metrics against reference runs appear only where there were such runs.
    compared = any(math.isfinite(record.metric(f"{mode}/{quantity}/{key}")) for mode in modes for key in PEERS)
    rows = [
        metric_row(record, quantity, key)
        for key in (*ROWS, *(PEERS if compared else ()))
        # One of the two variants of forgetting is enough.
        if key != "forgetting_at_learn" or key == record.forgetting
    ]
    for key in SPLIT if record.has_fast else ():
        name = f"fast_gain/{quantity}/{key}"
        cells = [metric_cell(record, name) if mode == record.main_mode else PageCell("") for mode in modes]
        rows.append([text_cell(catalogue.label(name), title=f"fast_gain/{key}"), *cells])
    inside = INSIDE if record.seen.points and len(record.seen.rows) > 1 else ()
    again = AGAIN if record.seen.relearned else ()
    rows += [metric_row(record, quantity, key) for key in (*inside, *again)]
    # Only synthetic sources know the entropy of their tasks.
    if quantity == "loss" and np.isfinite(record.seen.entropy).all():
        rows.append(metric_row(record, "regret", "avg_final"))
    # Of a single task most metrics say nothing, as nothing can be forgotten.
    return rows if len(record.results.tasks) > 1 else list(filter(has_number, rows))


SPLIT = ("avg_final", "forgetting_recovered")
INSIDE = ("min_acc", "wc_acc", "gap_depth", "gap_lasting", "windowed_plasticity", "steps_to_criterion")
AGAIN = ("savings_slow", "savings_slow_censored")


def metric_row(record: Record, quantity: str, key: str) -> list[PageCell]:
    """Return the label of a metric and its value in each mode."""
    names = [f"{mode}/{quantity}/{key}" for mode in record.modes]
    return [text_cell(catalogue.label(names[0]), title=key), *(metric_cell(record, name) for name in names)]


def metric_cell(record: Record, name: str) -> PageCell:
    """Return a cell with a metric, or with the reason why it is undefined."""
    x = record.metric(name)
    return number_cell(x) if math.isfinite(x) else number_cell(x, why=catalogue.why(record.seen, name))


def task_table(record: Record) -> Table:
    """Return what each task went through, in the main mode."""
    results, mode = record.results, record.main_mode
    picked = thin(len(results.tasks), to=TASKS) if results.tasks else []
    r = results.matrix(mode, "loss")
    slow = results.matrix("slow", "loss") if record.has_fast else None
    columns = {
        "task": "",
        "order": "its place in the stream",
        "before": "before the stream",
        "learned": "right after learning it",
        "end": "after the last row",
        "forgotten": "end minus learned; + is harm",
    }
    if record.has_fast:
        columns["fast gain"] = "mode slow minus mode fast, at the end; + is gain"
    rows = []
    for j in picked:
        cells = task_cells(r, j, learned_at=int(results.learned_at[j]), slow=slow)
        rows.append([text_cell(results.tasks[j]), PageCell(str(j + 1), value=str(j + 1)), *cells])
    note = f"{len(picked)} of {len(results.tasks)} tasks, evenly chosen." if len(picked) < len(results.tasks) else ""
    return Table("tasks", f"Loss on each task in bits per token, mode {mode}", columns, rows, note=note)


def task_cells(r: Matrix, j: int, *, learned_at: int, slow: Matrix | None) -> Iterator[PageCell]:
    """Yield task `j`'s loss before the stream, when learned and at the end, and the differences.

    `r` and `slow` are R of the main mode and of mode slow, which is None without fast weights.
    """
    last = len(r) - 1
    # A run that is not done has no row yet for the tasks that it has not learned.
    just = float(r[learned_at, j]) if learned_at <= last else math.nan
    yield number_cell(float(r[0, j]))
    yield number_cell(just, why="not learned yet")
    yield number_cell(float(r[last, j]))
    if learned_at < last:
        yield number_cell(float(r[last, j]) - just)
    else:
        yield number_cell(math.nan, why="nothing was learned after it")
    if slow is not None:
        yield number_cell(float(slow[last, j] - r[last, j]))


def cost_table(record: Record) -> Table:
    """Return the costs from status.json, or from the last event of a run that is not done."""
    status: dict[str, Any] = dict(record.status)
    events = [*record.trained, *record.evaluated]
    if events and "seconds" not in status:
        # Seconds and tokens are counted from the start of
        # the stream: the latest event has all of them.
        last = max(events, key=lambda event: float(event["seconds"]))
        status |= {"seconds": last["seconds"], "tokens": last["tokens"]}
    rows = [[text_cell(name), PageCell(text)] for name, text in cost_lines(status)]
    return Table("costs", "What it took", {"what": "", "value": ""}, rows, sortable=False)


def cost_lines(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each cost that is in `status`."""
    seconds, tokens = status.get("seconds"), status.get("tokens")
    speed = status.get("training_tokens_per_second")
    if seconds is not None:
        yield "wall time of the stream", duration(seconds)
    # Training time is not recorded: it follows from the tokens and their speed.
    if seconds and tokens and speed:
        yield "of it training", f"{duration(tokens / speed)} ({tokens / speed / seconds:.0%})"
    if "evaluation_seconds" in status and seconds:
        evaluation = status["evaluation_seconds"]
        yield "of it evaluation", f"{duration(evaluation)} ({evaluation / seconds:.0%})"
    if tokens is not None:
        yield "tokens trained on", f"{tokens:,}"
    if speed is not None:
        yield "training speed", f"{speed:,.0f} tokens per second"
    if "peak_memory_bytes" in status:
        yield "peak memory", f"{status['peak_memory_bytes'] / 1e6:,.0f} MB"
    if status.get("strategy_memory_bytes"):
        between = duration(status["strategy_seconds_between_tasks"])
        yield "the strategy keeps", f"{status['strategy_memory_bytes'] / 1e6:,.1f} MB; {between} between tasks"
    if "fast_state_numbers" in status:
        yield "fast state of one sequence", f"{status['fast_state_numbers']:,} numbers"


def environment_table(record: Record) -> Table:
    """Return versions, hardware and fingerprints."""
    content = record.environment
    rows = [(name, str(version)) for name, version in content.get("versions", {}).items()]
    rows += [(key, str(content[key])) for key in HARDWARE if key in content]
    if "code" in content:
        rows.append(("code fingerprint", str(content["code"])[:PRINT]))
    data = content.get("data", {})
    rows += [(f"data: {unit}", f"{count:,}") for unit, count in (data.get("rows") or {}).items()]
    for key in ("source", "base"):
        if data.get(key):
            rows.append((f"fingerprint of the {key}", str(data[key])[:PRINT]))
    cells = [[text_cell(name), text_cell(text)] for name, text in rows]
    return Table("environment", "What it ran on", {"what": "", "value": ""}, cells, sortable=False)


def fingerprint_table(record: Record) -> Table:
    """Return the fingerprint of each task's data."""
    prints = record.environment.get("data", {}).get("tasks") or []
    numbers = [str(j + 1) for j in range(len(prints))]
    # Before the first evaluation no task has a name.
    names = record.results.tasks if len(record.results.tasks) == len(prints) else numbers
    picked = thin(len(prints), to=TASKS) if prints else []
    rows = [[text_cell(names[j]), PageCell(visible(str(prints[j]))[:PRINT])] for j in picked]
    note = f"{len(picked)} of {len(prints)} tasks; environment.json has all." if len(picked) < len(prints) else ""
    columns = {"task": "", "fingerprint": ""}
    return Table("fingerprints", "Hash of the first samples of each task", columns, rows, note)
