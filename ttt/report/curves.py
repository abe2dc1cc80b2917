"""Pictures of what happened along the stream of one run, over its phases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ttt.figures import style
from ttt.figures.bands import TICKS, Band, bands
from ttt.metrics.matrix import Matrix, gained_slope, learned, learning_slope
from ttt.report.parts import Picture, picture
from ttt.report.record import Json, Record
from ttt.report.steps import POINTS, throughput_curve, training_curve
from ttt.report.text import thin, tick
from ttt.results.definitions import METRICS
from ttt.results.scores import sign

# Rows at which a metric over the tasks so far is computed: each costs a pass over R above it.
ROWS = 60
# Kinds of diagnostics, which get a picture each, and lines of a picture.
KINDS, LINES = 3, 6


def stream_pictures(record: Record) -> Iterator[Picture]:
    """Draw everything that was measured along the stream, in the order of the page."""
    if record.trained:
        yield training_curve(record)
    # A course needs two tasks: the first row was measured before the stream.
    if len(record.results.rows) > 2:
        yield seen_so_far_curve(record)
        yield in_sequence_curve(record)
        yield forgetting_curve(record)
        yield plasticity_curve(record)
    yield from diagnostics(record)
    if record.trained:
        yield throughput_curve(record)


def drawn_rows(record: Record) -> tuple[list[int], str]:
    """Return the wide rows after row 0, thinned, and a note on how many are left out."""
    wide = [i for i in record.wide_rows if i > 0]
    rows = [wide[k] for k in thin(len(wide), to=ROWS)]
    total = len(record.results.rows) - 1
    note = f" At {len(rows)} of {total} rows, over the learned tasks that are measured there."
    return rows, "" if len(rows) == total else note


def oriented(record: Record, mode: str, quantity: str = "loss") -> Matrix:
    """Return R [rows, tasks] with the sign that makes higher values better."""
    return sign(quantity) * record.results.matrix(mode, quantity)


def at_rows(record: Record, metric: str, a: Matrix, rows: Sequence[int]) -> list[float]:
    """Return the metric as if the stream had ended with each of `rows`.

    At each row it covers the tasks that were learned by then and are measured there.
    """
    at = record.results.learned_at
    values = []
    for i in rows:
        # A metric with an unmeasured cell is NaN, and thinned rows lack most cells.
        covered = (at <= i) & np.isfinite(a[i])
        values.append(METRICS[metric].of(a[: i + 1, covered], at[covered]) if covered.any() else math.nan)
    return values


def along_phases(record: Record, lines: Sequence[Band], *, ylabel: str, zero: bool = False) -> Axes:
    """Draw lines over phases, with the names of the tasks learned in them."""
    axes = bands(lines, xlabel="", ylabel=ylabel, zero=zero)
    total = len(record.results.rows) - 1
    names = {int(row): tick(record.results.tasks[j]) for j, row in enumerate(record.results.learned_at)}
    picked = [k + 1 for k in thin(total, to=TICKS)]
    axes.set_xticks(picked, [names.get(i, str(i)) for i in picked], rotation=30, ha="right")
    # A line may begin at row 0, before the first task.
    axes.set_xlim(min([1, *(x for line in lines for x in line.x)]) - 0.5, total + 0.5)
    return axes


def seen_so_far_curve(record: Record) -> Picture:
    rows, note = drawn_rows(record)
    # Oriented values count higher as better: turn them back into losses.
    lines = [
        Band(f"mode {mode}", rows, [-x for x in at_rows(record, "avg_final", oriented(record, mode), rows)])
        for mode in record.modes
    ]
    caption = "Mean loss over the tasks learned so far, after each task. Lower is better." + note
    draw = partial(along_phases, record, lines, ylabel="loss (bits per token)")
    return picture(draw, name="seen-so-far", title="All tasks learned so far", caption=caption)


def in_sequence_curve(record: Record) -> Picture:
    """Draw what reading the first half of a sequence is worth in its second half."""
    # Row 0 comes before the first task: nothing was just learned there.
    currents = [(e["row"], e["columns"].index(e["current"]), e["tasks"]) for e in record.evaluated if e["row"] > 0]
    picked = [currents[k] for k in thin(len(currents), to=POINTS)] if currents else []
    rows = [row for row, _, _ in picked]
    lines = [
        Band(f"mode {mode}", rows, [early_minus_late(tasks[mode], k) for _, k, tasks in picked])
        for mode in record.modes
    ]
    caption = (
        "Loss on the first half of a sequence minus loss on its second half, on the task just learned: what the model "
        "gains while it reads. Higher is more. Mode slow gains from attention alone."
    )
    draw = partial(along_phases, record, lines, ylabel="gain (bits per token)", zero=True)
    return picture(draw, name="in-sequence-gain", title="Gain within a sequence", caption=caption)


def early_minus_late(scores: Json, column: int) -> float:
    # JSON has no NaN: a score that was not measured is null in the journal.
    early, late = scores["loss_early"][column], scores["loss_late"][column]
    return math.nan if early is None or late is None else float(early - late)


def forgetting_curve(record: Record) -> Picture:
    rows, note = drawn_rows(record)
    metric = record.forgetting
    # Without fast weights the main mode is slow itself, and one line is drawn.
    modes = list(dict.fromkeys(["slow", record.main_mode]))
    values = {mode: at_rows(record, metric, oriented(record, mode), rows) for mode in modes}
    lines = [Band(f"mode {mode}", rows, y) for mode, y in values.items()]
    caption = f"{metric}, in bits per token, over the tasks learned so far; above zero is harm."
    if len(modes) == 2:
        recovered = [slow - fast for slow, fast in zip(values["slow"], values[record.main_mode], strict=True)]
        lines.append(Band("recovered", rows, recovered))
        caption += f" Recovered: what fast weights make up for (slow minus {record.main_mode})."
    draw = partial(along_phases, record, lines, ylabel="forgetting (bits per token)", zero=True)
    return picture(draw, name="forgetting", title="Forgetting, slow and fast", caption=caption + note)


def plasticity_curve(record: Record) -> Picture:
    """Draw the loss on each task right after it was learned, with its least-squares line."""
    results = record.seen
    # A stable sort keeps tasks that were learned in one phase in their order.
    order = np.argsort(results.learned_at, kind="stable")
    x = results.learned_at[order].tolist()
    picked = thin(len(x), to=POINTS)
    lines, slopes, gained = [], [], []
    for mode in record.modes:
        y = learned(results.matrix(mode, "loss"), results.learned_at)[order]
        lines.append(Band(f"mode {mode}", [x[k] for k in picked], [float(y[k]) for k in picked]))
        # Of the loss that is drawn: both metrics count a fall as gain, and so the other way.
        a, at = -results.matrix(mode, "loss"), results.learned_at
        slopes.append(f"{mode} {0 - learning_slope(a, at):+.4f}")
        gained.append(f"{mode} {0 - gained_slope(a, at):+.4f}")
    caption = "Loss on each task right after it was learned; dotted: its least-squares line"
    # Two points always lie on a line: their slope says nothing.
    if len(x) < 3:
        caption += ". A slope needs three tasks."
    else:
        caption += (
            f", in bits a task: {', '.join(slopes)}. Less the loss before the stream, so that hard tasks do not bend "
            f"it: {', '.join(gained)}. A line that rises is plasticity lost; learning_slope and gained_slope, where + "
            "is gain, are these numbers with the other sign."
        )
    draw = partial(with_trend, record, lines)
    return picture(draw, name="plasticity", title="Right after learning", caption=caption)


def with_trend(record: Record, lines: Sequence[Band]) -> Axes:
    axes = along_phases(record, lines, ylabel="loss (bits per token)")
    for i, line in enumerate(lines):
        if len(line.x) > 2 and np.isfinite(line.mean).all():
            ends = np.array([min(line.x), max(line.x)])
            axes.plot(ends, np.polyval(np.polyfit(line.x, line.mean, 1), ends), color=style.color(i), linestyle=":")
    return axes


def diagnostics(record: Record) -> Iterator[Picture]:
    """Draw the adapter's diagnostics: a picture for each kind, a line for each layer."""
    events = [e for e in record.evaluated if e.get("diagnostics")]
    picked = [events[k] for k in thin(len(events), to=POINTS)] if events else []
    for kind, layers in list(layers_by_kind(events).items())[:KINDS]:
        drawn = [layers[k] for k in thin(len(layers), to=LINES)]
        rows = [e["row"] for e in picked]
        lines = [Band(layer or kind, rows, [diagnostic(e, layer, kind) for e in picked]) for layer in drawn]
        caption = f"The adapter's own {kind}, at each evaluation."
        if len(drawn) < len(layers):
            caption += f" {len(drawn)} of {len(layers)} layers."
        draw = partial(along_phases, record, lines, ylabel=kind)
        yield picture(draw, name=f"diagnostics-{kind}", title=f"Fast weights: {kind}", caption=caption)


def layers_by_kind(events: Sequence[Json]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    # Names with a slash come from eval.diagnostics and not from the adapter: inside.py draws them.
    for key in (key for key in events[-1]["diagnostics"] if "/" not in key) if events else ():
        layer, _, kind = key.rpartition(".")
        kinds.setdefault(kind, []).append(layer)
    return kinds


def diagnostic(event: Json, layer: str, kind: str) -> float:
    x = event["diagnostics"].get(f"{layer}.{kind}" if layer else kind)
    return math.nan if x is None else float(x)
