"""What happened along the stream of one run, as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ttt.figures import style
from ttt.figures.bands import TICKS, Band, bands
from ttt.metrics.matrix import METRICS, Matrix, learned
from ttt.report.parts import Picture, picture
from ttt.report.record import Json, Record
from ttt.report.text import thin, tick
from ttt.results.scores import sign

# Points of a line, and rows at which a metric is taken anew.
POINTS, ROWS = 400, 60
# Pictures of diagnostics, and lines in one.
KINDS, LINES = 3, 6


def pictures(record: Record) -> Iterator[Picture]:
    """In the order of the page; none of what was not measured."""
    if record.trained:
        yield training(record)
    if len(record.results.rows) > 1:
        yield seen_so_far(record)
        yield in_sequence(record)
        yield forgetting(record)
        yield plasticity(record)
    yield from diagnostics(record)
    if record.trained:
        yield throughput(record)


def training(record: Record) -> Picture:
    """Of a policy its rewards: its loss is no code length, it only has the right gradient."""
    name, unit, of = "loss", "bits per token", [e["loss"] for e in record.trained]
    if all("reward" in e["terms"] for e in record.trained):
        name, unit, of = "reward", "share", [e["terms"]["reward"] for e in record.trained]
    steps, values = binned([e["step"] for e in record.trained], of)
    caption = f"{name.capitalize()} on the batches it learned from ({unit}); thin lines where a task ends."
    draw = partial(along_steps, record, [Band("training", steps, values)], ylabel=f"{name} ({unit})")
    caption += left_out(values, len(record.trained))
    return picture(draw, name="training-loss", title=f"Training {name}", caption=caption)


def throughput(record: Record) -> Picture:
    steps, speed = binned([e["step"] for e in record.trained], [e["tokens_per_second"] for e in record.trained])
    caption = "Tokens per second of training alone, without evaluation."
    draw = partial(along_steps, record, [Band("training", steps, speed)], ylabel="tokens per second", bottom=0)
    return picture(
        draw, name="throughput", title="Training speed", caption=caption + left_out(speed, len(record.trained))
    )


def along_steps(record: Record, lines: Sequence[Band], *, ylabel: str, bottom: float | None = None) -> Axes:
    """Over optimizer steps, with the names of tasks where they were learned."""
    ends = phase_ends(record.trained)
    edges = [0.0, *ends]
    shown = [ends[k] for k in thin(len(ends), to=POINTS // 4)]
    axes = bands(lines, xlabel="", ylabel=ylabel, boundaries=shown[:-1])
    names = list({e["task"]: e["task_name"] for e in record.trained}.values())
    picked = thin(len(ends), to=TICKS)
    middles = [(edges[k] + edges[k + 1]) / 2 for k in picked]
    axes.set_xticks(middles, [tick(names[k]) for k in picked], rotation=30, ha="right")
    axes.set_ylim(bottom=bottom)
    return axes


def phase_ends(trained: Sequence[Json]) -> list[float]:
    """The last step that was reported of each phase."""
    last = {event["task"]: float(event["step"]) for event in trained}
    return list(last.values())


def binned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most POINTS points: means over equally many neighbours, each where the last of them was."""
    size = max(1, math.ceil(len(x) / POINTS))
    parts = [slice(k, k + size) for k in range(0, len(x), size)]
    return [float(x[part][-1]) for part in parts], [float(np.mean(y[part])) for part in parts]


def left_out(points: Sequence[float], count: int) -> str:
    return f" {len(points)} points, each a mean over neighbours of {count:,}." if len(points) < count else ""


def rows_of(record: Record) -> tuple[list[int], str]:
    """Wide rows behind the first, thinned, and what to say about the others."""
    wide = [i for i in record.wide_rows if i > 0]
    rows = [wide[k] for k in thin(len(wide), to=ROWS)]
    total = len(record.results.rows) - 1
    missing = f" At {len(rows)} of {total} rows, over the learned tasks that are measured there."
    return rows, "" if len(rows) == total else missing


def oriented(record: Record, mode: str, quantity: str = "loss") -> Matrix:
    return sign(quantity) * record.results.matrix(mode, quantity)


def at_rows(record: Record, metric: str, a: Matrix, rows: Sequence[int]) -> list[float]:
    """The metric as if the stream had ended with each of `rows`, over the tasks learned by then and measured there."""
    at = record.results.learned_at
    values = []
    for i in rows:
        known = (at <= i) & np.isfinite(a[i])
        values.append(METRICS[metric](a[: i + 1, known], at[known]) if known.any() else math.nan)
    return values


def after(record: Record, lines: Sequence[Band], *, ylabel: str, zero: bool = False) -> Axes:
    """Over phases, with the names of the tasks learned in them."""
    axes = bands(lines, xlabel="", ylabel=ylabel, zero=zero)
    total = len(record.results.rows) - 1
    names = {int(row): tick(record.results.tasks[j]) for j, row in enumerate(record.results.learned_at)}
    picked = [k + 1 for k in thin(total, to=TICKS)]
    axes.set_xticks(picked, [names.get(i, str(i)) for i in picked], rotation=30, ha="right")
    axes.set_xlim(min([1, *(x for line in lines for x in line.x)]) - 0.5, total + 0.5)
    return axes


def seen_so_far(record: Record) -> Picture:
    rows, missing = rows_of(record)
    lines = [
        Band(f"mode {mode}", rows, [-x for x in at_rows(record, "avg_final", oriented(record, mode), rows)])
        for mode in record.modes
    ]
    caption = "Mean loss over the tasks learned so far, after each task. Lower is better." + missing
    draw = partial(after, record, lines, ylabel="loss (bits per token)")
    return picture(draw, name="seen-so-far", title="All tasks learned so far", caption=caption)


def in_sequence(record: Record) -> Picture:
    """What reading the first half of a sequence is worth in its second half."""
    currents = [(e["row"], e["columns"].index(e["current"]), e["tasks"]) for e in record.evaluated if e["row"] > 0]
    kept = [currents[k] for k in thin(len(currents), to=POINTS)] if currents else []
    lines = [
        Band(f"mode {mode}", [row for row, _, _ in kept], [early_minus_late(tasks[mode], k) for _, k, tasks in kept])
        for mode in record.modes
    ]
    caption = (
        "Loss on the first half of a sequence minus loss on its second half, on the task just learned: what the model "
        "gains while it reads. Higher is more. Mode slow gains from attention alone."
    )
    draw = partial(after, record, lines, ylabel="gain (bits per token)", zero=True)
    return picture(draw, name="in-sequence-gain", title="Gain within a sequence", caption=caption)


def early_minus_late(scores: Json, column: int) -> float:
    early, late = scores["loss_early"][column], scores["loss_late"][column]
    return math.nan if early is None or late is None else float(early - late)


def forgetting(record: Record) -> Picture:
    rows, missing = rows_of(record)
    metric = record.forgetting
    modes = list(dict.fromkeys(["slow", record.main_mode]))
    values = {mode: at_rows(record, metric, oriented(record, mode), rows) for mode in modes}
    lines = [Band(f"mode {mode}", rows, y) for mode, y in values.items()]
    caption = f"{metric}, in bits per token, over the tasks learned so far; above zero is harm."
    if len(modes) == 2:
        recovered = [slow - fast for slow, fast in zip(values["slow"], values[record.main_mode], strict=True)]
        lines.append(Band("recovered", rows, recovered))
        caption += f" Recovered: what fast weights make up for (slow minus {record.main_mode})."
    draw = partial(after, record, lines, ylabel="forgetting (bits per token)", zero=True)
    return picture(draw, name="forgetting", title="Forgetting, slow and fast", caption=caption + missing)


def plasticity(record: Record) -> Picture:
    results = record.seen
    order = np.argsort(results.learned_at, kind="stable")
    x = results.learned_at[order].tolist()
    picked = thin(len(x), to=POINTS)
    lines, slopes = [], []
    for mode in record.modes:
        y = learned(results.matrix(mode, "loss"), results.learned_at)[order]
        lines.append(Band(f"mode {mode}", [x[k] for k in picked], [float(y[k]) for k in picked]))
        slopes.append(f"{mode} {METRICS['learning_slope'](-results.matrix(mode, 'loss'), results.learned_at):+.4f}")
    caption = "Loss on each task right after it was learned; dotted: its least-squares line. "
    if len(x) < 3:
        caption += "A slope needs three tasks."
    else:
        caption += f"learning_slope, bits a task (below zero: plasticity is lost): {', '.join(slopes)}."
    draw = partial(with_trend, record, lines)
    return picture(draw, name="plasticity", title="Right after learning", caption=caption)


def with_trend(record: Record, lines: Sequence[Band]) -> Axes:
    axes = after(record, lines, ylabel="loss (bits per token)")
    for i, line in enumerate(lines):
        if len(line.x) > 2 and np.isfinite(line.mean).all():
            ends = np.array([min(line.x), max(line.x)])
            axes.plot(ends, np.polyval(np.polyfit(line.x, line.mean, 1), ends), color=style.color(i), linestyle=":")
    return axes


def diagnostics(record: Record) -> Iterator[Picture]:
    """What the adapter says of its state at each evaluation: a picture for each kind, a line for each layer."""
    events = [e for e in record.evaluated if e.get("diagnostics")]
    kinds: dict[str, list[str]] = {}
    # Names with a slash are not the adapter's: see report/inside.py.
    for key in (key for key in events[-1]["diagnostics"] if "/" not in key) if events else ():
        layer, _, kind = key.rpartition(".")
        kinds.setdefault(kind, []).append(layer)
    picked = [events[k] for k in thin(len(events), to=POINTS)] if events else []
    for kind, layers in list(kinds.items())[:KINDS]:
        shown = [layers[k] for k in thin(len(layers), to=LINES)]
        lines = [
            Band(layer or kind, [e["row"] for e in picked], [of(e, layer, kind) for e in picked]) for layer in shown
        ]
        caption = f"The adapter's own {kind}, at each evaluation."
        if len(shown) < len(layers):
            caption += f" {len(shown)} of {len(layers)} layers."
        draw = partial(after, record, lines, ylabel=kind)
        yield picture(draw, name=f"diagnostics-{kind}", title=f"Fast weights: {kind}", caption=caption)


def of(event: Json, layer: str, kind: str) -> float:
    found = event["diagnostics"].get(f"{layer}.{kind}" if layer else kind)
    return math.nan if found is None else float(found)
