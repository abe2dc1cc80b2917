"""The tables of one run: headline, tasks, costs, environment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttt.report.parts import Cell, Table, value, word
from ttt.report.record import Record
from ttt.report.text import METRICS, MODES, PEERS, QUANTITIES, UNITS, clean, duration, number, thin

# Tasks of a table, and characters of a fingerprint.
TASKS, PRINT = 100, 16
HARDWARE = ("device", "threads", "cpu_count", "platform", "git")


@dataclass(frozen=True)
class Big:
    """A number that stands alone; `sign` says which way is good."""

    text: str
    unit: str
    name: str
    sign: str
    metric: str


def big_numbers(record: Record) -> list[Big]:
    """Three to five, those that are defined."""
    if not record.seen.tasks:
        return []
    quantity = record.results.headline.split("/")[1]
    first, named = f"{record.main_mode}/{quantity}", QUANTITIES[quantity]
    side = "lower is better" if quantity == "loss" else "higher is better"
    asked = [
        (f"{first}/avg_learning", f"{named} right after learning", side),
        (f"{first}/avg_final", f"{named} after the whole stream", side),
        (f"{first}/{record.forgetting}", "forgetting", "+ is harm"),
        (f"{first}/fwt_b_row0", "forward transfer", "+ is gain"),
    ]
    if record.has_fast:
        asked.insert(3, (f"fast_gain/{quantity}/avg_final", "gain of fast over slow weights, at the end", "+ is gain"))
    return [
        Big(number(x), UNITS[quantity], name, sign, metric)
        for metric, name, sign in asked
        if math.isfinite(x := record.metric(metric))
    ]


def headline(record: Record) -> list[Table]:
    """A table for each quantity: metric by mode."""
    modes = record.modes
    columns = {"metric": ""} | {mode: f"mode {mode}: {MODES[record.results.used][mode]}" for mode in modes}
    return [
        Table(f"headline-{key}", f"{title.capitalize()} ({UNITS[key]})", columns, metric_rows(record, key))
        for key, title in QUANTITIES.items()
        if key in record.results.quantities
    ]


def metric_rows(record: Record, quantity: str) -> list[list[Cell]]:
    modes = record.modes
    compared = any(math.isfinite(record.metric(f"{mode}/{quantity}/{key}")) for mode in modes for key in PEERS)
    rows = [
        [word(label, title=key), *(metric_cell(record, f"{mode}/{quantity}/{key}") for mode in modes)]
        for key, label in (METRICS | (PEERS if compared else {})).items()
        # Of two variants of forgetting one is shown.
        if key != "forgetting_at_learn" or key == record.forgetting
    ]
    for key, label in SPLIT.items() if record.has_fast else ():
        cell = metric_cell(record, f"fast_gain/{quantity}/{key}")
        rows.append(
            [word(label, title=f"fast_gain/{key}"), *(cell if mode == record.main_mode else Cell("") for mode in modes)]
        )
    for key, label in INSIDE.items() if record.seen.points and len(record.seen.rows) > 1 else ():
        rows.append([word(label, title=key), *(metric_cell(record, f"{mode}/{quantity}/{key}") for mode in modes)])
    for key, label in AGAIN.items() if record.seen.relearned else ():
        rows.append([word(label, title=key), *(metric_cell(record, f"{mode}/{quantity}/{key}") for mode in modes)])
    if quantity == "loss" and np.isfinite(record.seen.entropy).all():
        label = "regret: loss above the entropy, at the end"
        rows.append([word(label), *(metric_cell(record, f"{mode}/regret/avg_final") for mode in modes)])
    return rows


SPLIT = {
    "avg_final": "gain of fast over slow, at the end (+ is gain)",
    "forgetting_recovered": "forgetting that fast weights make up for",
}
INSIDE = {
    "min_acc": "worst value of each old task, mean",
    "wc_acc": "worst case, with the last task",
    "gap_depth": "depth of the stability gap (+ is harm)",
    "gap_lasting": "of it left when a task ends (+ is harm)",
    "windowed_plasticity": "steepest rise (+ is gain)",
    "steps_to_criterion": "steps to 90 % of what is learned",
}
AGAIN = {
    "savings_slow": "steps saved in relearning (share)",
    "savings_slow_censored": "tasks that did not come back (share)",
}


def metric_cell(record: Record, name: str) -> Cell:
    """An undefined metric says why."""
    x = record.metric(name)
    return value(x) if math.isfinite(x) else value(x, why=record.seen.why(name))


def per_task(record: Record) -> Table:
    """What each task went through, in the main mode."""
    results, mode = record.results, record.main_mode
    r = results.matrix(mode, "loss")
    last = len(r) - 1
    picked = thin(len(results.tasks), to=TASKS) if results.tasks else []
    rows = []
    for j in picked:
        at = int(results.learned_at[j])
        known = at <= last
        just = float(r[at, j]) if known else math.nan
        harm = float(r[last, j]) - just if known and at < last else math.nan
        cells = [value(float(r[0, j])), value(just, why="not learned yet"), value(float(r[last, j]))]
        why = "" if known and at < last else "nothing was learned after it"
        cells += [value(harm, why=why)]
        if record.has_fast:
            cells.append(value(float(results.matrix("slow", "loss")[last, j] - r[last, j])))
        rows.append([word(results.tasks[j]), Cell(str(j + 1), value=str(j + 1)), *cells])
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
    shown = f"{len(picked)} of {len(results.tasks)} tasks, evenly chosen." if len(picked) < len(results.tasks) else ""
    return Table("tasks", f"Loss on each task in bits per token, mode {mode}", columns, rows, note=shown)


def costs(record: Record) -> Table:
    """From status.json; of a run that is not done, from its last event."""
    status: dict[str, Any] = dict(record.status)
    events = [*record.trained, *record.evaluated]
    if events and "seconds" not in status:
        last = max(events, key=lambda event: float(event["seconds"]))
        status |= {"seconds": last["seconds"], "tokens": last["tokens"]}
    rows = [[word(name), Cell(text)] for name, text in cost_lines(status)]
    return Table("costs", "What it took", {"what": "", "value": ""}, rows, sortable=False)


def cost_lines(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    seconds, tokens = status.get("seconds"), status.get("tokens")
    speed = status.get("training_tokens_per_second")
    if seconds is not None:
        yield "wall time of the stream", duration(seconds)
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


def environment(record: Record) -> Table:
    content = record.environment
    rows: list[tuple[str, str]] = [(name, str(number)) for name, number in content.get("versions", {}).items()]
    rows += [
        (key, str(content[key])) for key in ("device", "threads", "cpu_count", "platform", "git") if key in content
    ]
    if "code" in content:
        rows.append(("code fingerprint", str(content["code"])[:PRINT]))
    data = content.get("data", {})
    rows += [(f"data: {unit}", f"{count:,}") for unit, count in (data.get("rows") or {}).items()]
    for key in ("source", "base"):
        if data.get(key):
            rows.append((f"fingerprint of the {key}", str(data[key])[:PRINT]))
    cells = [[word(name), word(text)] for name, text in rows]
    return Table("environment", "What it ran on", {"what": "", "value": ""}, cells, sortable=False)


def fingerprints(record: Record) -> Table:
    prints = record.environment.get("data", {}).get("tasks") or []
    names = (
        record.results.tasks if len(record.results.tasks) == len(prints) else [str(j + 1) for j in range(len(prints))]
    )
    picked = thin(len(prints), to=TASKS) if prints else []
    rows = [[word(names[j]), Cell(clean(str(prints[j]))[:PRINT])] for j in picked]
    shown = f"{len(picked)} of {len(prints)} tasks; environment.json has all." if len(picked) < len(prints) else ""
    return Table("fingerprints", "Hash of the first samples of each task", {"task": "", "fingerprint": ""}, rows, shown)
