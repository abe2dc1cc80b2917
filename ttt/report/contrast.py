"""Tables of a comparison: groups of runs side by side, differences, and which groups are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ttt.compare.frontier import RATE, Frontier
from ttt.compare.groups import Group, headline, paired_with
from ttt.compare.names import READABLE, readable_key
from ttt.compare.notes import notes, seed_notes
from ttt.compare.sheet import Cell, Sheet
from ttt.compare.table import by_metric, by_task
from ttt.config.visible import visible
from ttt.report.parts import PageCell, Table, text_cell
from ttt.report.text import UNDEFINED, as_sentences, number, sentence_case, thin
from ttt.results import catalogue
from ttt.results.scores import MEANINGS, MODES, quantity_of

# At most this many lines in a picture, and this many tasks in a table.
LINES, TASKS = 6, 100
# The methods that others are usually compared with; the first that tells groups apart is taken.
PLAIN = {"adapter.name": "none", "strategy.name": "naive"}


def metric_columns(groups: Sequence[Group]) -> dict[str, str]:
    """Return metric -> header, main mode first, for the metrics that some group has."""
    forgetting, (main, quantity) = forgetting_variant(groups), headline(groups).split("/")
    modes = (main, *(mode for mode in MODES if mode != main))
    by_mode = [f"{mode}/{quantity}/{x}" for mode in modes for x in ("avg_learning", "avg_final", forgetting)]
    extra = [f"fast_gain/{quantity}/avg_final", f"{main}/accuracy/avg_final"]
    # The main mode's three metrics come first: a narrow screen shows these without scrolling.
    metrics = [*by_mode[:3], *extra, *by_mode[3:], "cost/run/training_tokens_per_second"]
    return {metric: called(metric) for metric in metrics if any(is_measured(group, metric) for group in groups)}


def is_measured(group: Group, metric: str) -> bool:
    return any(math.isfinite(x) for x in group.values(metric))


def forgetting_variant(groups: Sequence[Group]) -> str:
    """Return the variant of forgetting that all groups define, even if rows were thinned."""
    everywhere = all(is_measured(group, f"{headline(groups)}/forgetting_max_seen") for group in groups)
    return "forgetting_max_seen" if everywhere else "forgetting_at_learn"


def called(metric: str) -> str:
    """Return a metric's header."""
    mode, quantity, _ = metric.split("/")
    text = catalogue.label(metric)
    return text if mode in ("cost", "fast_gain") else f"{quantity}, {mode}: {text}"


def group_table(groups: Sequence[Group], metrics: Mapping[str, str], *, baseline: Mapping[int, Group]) -> Table:
    """Return the metrics of each group, or with a `baseline` its differences to that."""
    if not baseline:
        sheet = by_metric(groups, list(metrics), baseline={}, sort=None)
        table = from_sheet(sheet, name="groups", caption="Mean over seeds ± half of the 95 % t-interval")
        return replace(table, note=as_sentences([*notes(sheet), *seed_notes(groups)]))
    # Without fast weights there is no mode carried to differ from.
    shared = [x for x in metrics if any(is_measured(groups[i], x) and is_measured(baseline[i], x) for i in baseline)]
    # Levels stand below the differences, and in the table of all groups, which marks the best too.
    (_, sheet), *_ = by_metric(groups, shared, baseline=baseline, sort=None).sections()
    rows = [(words, [replace(x, ahead=False, nearly_ahead=False) for x in cells]) for words, cells in sheet.rows]
    sheet = replace(sheet, rows=rows)
    table = from_sheet(sheet, name="differences", caption="Differences to the baseline, over equal seeds")
    return replace(table, note=as_sentences(notes(sheet)))


def from_sheet(sheet: Sheet, *, name: str, caption: str) -> Table:
    head = dict(zip(keys_called(sheet.keys), sheet.keys, strict=True))
    for column in sheet.columns:
        head[called(column) if column.count("/") == 2 else visible(column)] = column
    rows = []
    for words, cells in sheet.rows:
        # Learning rates and seeds are among the words, and sort as numbers.
        texts = (PageCell(visible(w), value=w if is_number(w) else "") for w in words)
        rows.append([*texts, *map(interval_cell, cells)])
    return Table(name, caption, head, rows)


def keys_called(keys: Sequence[str]) -> list[str]:
    """Return what people call the keys of a label, as long as that tells them apart."""
    names = [readable_key(key) for key in keys]
    return names if len(set(names)) == len(names) else list(keys)


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def interval_cell(cell: Cell) -> PageCell:
    """Return mean ± half, bold if clearly best, with a star if the interval leaves out zero."""
    mean, half, n, sd, _ = cell.interval
    if not math.isfinite(mean):
        return PageCell(UNDEFINED if n else "", value="nan", title="not measured" if n else "")
    sign = "+" if cell.difference and mean > 0 else ""
    text = f"{sign}{number(mean)}" + (f" ± {number(half)}" if math.isfinite(half) else "")
    title = [f"{n} {'seed' if n == 1 else 'seeds'}", f"sd {number(sd)}" if math.isfinite(sd) else "no interval"]
    # Phones and paper have no pointer: what a difference is worth stands in its cell.
    # A space that does not break keeps p and its number on one line.
    text += ("*" if cell.resolved else "") + (f", p\u00a0{cell.p:.3g}" if math.isfinite(cell.p) else "")
    return PageCell(text, value=repr(mean), title=", ".join(title), strong=cell.ahead)


def baseline_name(groups: Sequence[Group]) -> str:
    """Return KEY=VALUE of the plain method, or "" if it is not there or nothing pairs with it."""
    for key, plain in PLAIN.items():
        if key in groups[0].label and paired_with(groups, key=key, value=plain):
            return f"{key}={plain}"
    return ""


def mode_meanings(metrics: Mapping[str, str], groups: Sequence[Group]) -> dict[str, str]:
    """Return mode -> what it means, for the modes of these metrics."""
    used = groups[0].runs[0].results.used
    return {mode: MEANINGS[used][mode] for mode in MODES if any(name.startswith(f"{mode}/") for name in metrics)}


def rate_frontier(groups: Sequence[Group]) -> Frontier | None:
    """Return learning against forgetting, if the groups differ in their learning rate."""
    # A label holds what differs: without several rates it has none.
    if any(not isinstance(group.label.get(RATE), int | float) for group in groups):
        return None
    first = headline(groups)
    learning, forgetting = f"{first}/avg_learning", f"{first}/{forgetting_variant(groups)}"
    if not all(is_measured(group, metric) for group in groups for metric in (learning, forgetting)):
        return None
    return Frontier.of(groups, key=RATE, learning=learning, forgetting=forgetting)


def areas(frontier: Frontier) -> Table:
    caption = "Area that each line dominates (larger is better), from the worst values among these runs"
    return from_sheet(frontier.sheet(), name="areas", caption=caption)


def chosen(groups: Sequence[Group]) -> tuple[Sequence[Group], str]:
    """Return the groups that get a line each, and a note on how they were chosen.

    Of every method this is the rate that learns best: a choice that the current task alone can
    tell, as a continual learner has to make it.
    """
    frontier = rate_frontier(groups)
    lines = [line.best(frontier.learning) for line in frontier.lines] if frontier else list(groups)
    why = f" Of each method its best rate by {frontier.learning}." if frontier and len(lines) < len(groups) else ""
    if len(lines) > LINES:
        why += f" {LINES} of {len(lines)} groups, evenly chosen."
    return [lines[k] for k in thin(len(lines), to=LINES)], why


def short(group: Group) -> str:
    """Return a group's name in a legend, such as "mlp_fast, learning rate 0.001"."""
    return visible(READABLE.method(group.label)).replace("$", r"\$")


def comparable(groups: Sequence[Group]) -> bool:
    """Do all runs have equally many tasks and phases?"""
    return len({(len(run.results.tasks), run.results.phases) for group in groups for run in group.runs}) == 1


def final_table(groups: Sequence[Group], why: str) -> Table | None:
    """Return what each task scores at the end, with a column for each group."""
    if not comparable(groups):
        return None
    mode, quantity = headline(groups).split("/")
    sheet = by_task(groups, f"{mode}/{quantity}/final")
    picked = thin(len(sheet.rows), to=TASKS)
    rows = [[text_cell(sheet.rows[j][0][0]), *map(interval_cell, sheet.rows[j][1])] for j in picked]
    note = f"{len(picked)} of {len(sheet.rows)} tasks, evenly chosen." if len(picked) < len(sheet.rows) else ""
    head = {"task": ""} | {short(group): group.name for group in groups}
    label, unit = sentence_case(quantity_of(quantity).label), quantity_of(quantity).unit
    caption = f"{label} on each task at the end, mode {mode}, {unit}"
    return Table("per-task", caption, head, rows, note=(why + " " + note).strip())
