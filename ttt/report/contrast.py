"""Groups of runs side by side: their tables and pictures on the page of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes

from ttt.compare.frontier import RATE, Frontier
from ttt.compare.groups import Group, headline, paired_with
from ttt.compare.table import Cell, Sheet, by_metric, by_row, by_task
from ttt.config.messages import show
from ttt.report import parts
from ttt.report.parts import Picture, Table, picture, word
from ttt.report.text import METRICS, QUANTITIES, UNDEFINED, UNITS, clean, number, thin, tick

# Lines in a picture, tasks along which curves are drawn, and tasks of the table.
LINES, LONG, TASKS = 6, 60, 100
MODES = ("fast", "slow", "carried", "archived")
# Diagnostics that are drawn along the stream, where they were measured.
DIAGNOSED = {
    "curve-dormant": ("Dormant units (tau 0.1)", "slow/plasticity/dormant_tau0.1"),
    "curve-rank": ("Effective rank of hidden units", "slow/plasticity/erank"),
    "curve-weights": ("Norm of the slow weights", "slow/plasticity/weight_l2"),
    "curve-gradient": ("Gradient on the probe batch", "slow/plasticity/grad_l2"),
    "curve-drift": ("Drift from the base, bits per token", "fast/drift/kl_base"),
}
# What methods are usually compared with.
PLAIN = {"adapter.name": "none", "strategy.name": "naive"}


def columns(groups: Sequence[Group]) -> dict[str, str]:
    """Metric -> its name in a header: those that some group has, main mode first."""
    forgot, (main, quantity) = forgetting(groups), headline(groups).split("/")
    others = [mode for mode in MODES if mode != main]
    told = [f"{mode}/{quantity}/{x}" for mode in (main, *others) for x in ("avg_learning", "avg_final", forgot)]
    asked = [*told[:3], f"fast_gain/{quantity}/avg_final", f"{main}/accuracy/avg_final", *told[3:]]
    asked.append("cost/run/training_tokens_per_second")
    return {metric: called(metric) for metric in asked if any(known(group, metric) for group in groups)}


def known(group: Group, metric: str) -> bool:
    return any(math.isfinite(x) for x in group.values(metric))


def forgetting(groups: Sequence[Group]) -> str:
    """The variant that thinned evaluations leave defined."""
    whole = all(known(group, f"{headline(groups)}/forgetting_max_seen") for group in groups)
    return "forgetting_max_seen" if whole else "forgetting_at_learn"


def called(metric: str) -> str:
    mode, quantity, name = metric.split("/")
    if mode == "cost":
        return name.replace("_", " ")
    if mode == "fast_gain":
        return "gain of fast over slow, at the end"
    return f"{quantity}, {mode}: {METRICS[name]}"


def table(groups: Sequence[Group], metrics: Mapping[str, str], *, baseline: Mapping[int, Group]) -> Table:
    sheet = by_metric(groups, list(metrics), baseline=baseline, sort=None)
    if baseline:
        # The best of a column is told by the first table.
        kept = [
            (words, [replace(cell, best=False) for cell in cells])
            for words, cells in map(sheet.rows.__getitem__, baseline)
        ]
        sheet = Sheet(sheet.title, sheet.keys, sheet.columns, kept)
        return from_sheet(sheet, name="differences", caption="Differences to the baseline, over equal seeds")
    return from_sheet(sheet, name="groups", caption="Mean over seeds ± half of the 95 % t-interval")


def from_sheet(sheet: Sheet, *, name: str, caption: str) -> Table:
    head = dict.fromkeys(sheet.keys, "")
    for column in sheet.columns:
        head[called(column) if column.count("/") == 2 else clean(column)] = column
    rows = []
    for words, cells in sheet.rows:
        # Numbers among the words (rates, seeds) sort as numbers.
        rows.append([*(parts.Cell(clean(w), value=w if is_number(w) else "") for w in words), *map(interval, cells)])
    return Table(name, caption, head, rows)


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def interval(cell: Cell) -> parts.Cell:
    """mean ± half, in bold where best; * where the interval leaves out zero."""
    mean, half, n, sd = cell.interval
    if not math.isfinite(mean):
        return parts.Cell(UNDEFINED if n else "", value="nan", title="not measured" if n else "")
    sign = "+" if cell.difference and mean > 0 else ""
    text = f"{sign}{number(mean)}" + (f" ± {number(half)}" if math.isfinite(half) else "")
    told = [f"{n} {'seed' if n == 1 else 'seeds'}"] + ([f"sd {number(sd)}"] if math.isfinite(sd) else ["no interval"])
    told += [f"p {cell.p:.3g} (sign flip)"] if math.isfinite(cell.p) else []
    star = "*" if cell.resolved else ""
    return parts.Cell(text + star, value=repr(mean), title=", ".join(told), strong=cell.best)


def baseline_name(groups: Sequence[Group]) -> str:
    """KEY=VALUE of the plain method, where there is one beside others."""
    for key, plain in PLAIN.items():
        values = {str(group.label.get(key)) for group in groups}
        if plain in values and len(values) > 1:
            return f"{key}={plain}"
    return ""


def baseline(groups: Sequence[Group]) -> dict[int, Group]:
    """index of a group -> the plain group that equals it in all else."""
    key, _, plain = baseline_name(groups).partition("=")
    if not key:
        return {}
    return paired_with(groups, key=key, value=plain)


def frontier(groups: Sequence[Group]) -> Frontier | None:
    """Learning against forgetting, where the groups differ in their rate."""
    if any(not isinstance(group.label.get(RATE), int | float) for group in groups):
        return None
    first = headline(groups)
    learning, forgot = f"{first}/avg_learning", f"{first}/{forgetting(groups)}"
    if not all(known(group, metric) for group in groups for metric in (learning, forgot)):
        return None
    return Frontier.of(groups, key=RATE, learning=learning, forgetting=forgot)


def areas(content: Frontier) -> Table:
    caption = "Area that each line dominates (larger is better), from the worst values among these runs"
    return from_sheet(content.sheet(), name="areas", caption=caption)


def chosen(groups: Sequence[Group]) -> tuple[Sequence[Group], str]:
    """Groups that get a line each: of every method the rate that learns best, which the current task alone can tell."""
    content = frontier(groups)
    lines = [line.best(content.learning) for line in content.lines] if content else list(groups)
    why = f" Of each method its best rate by {content.learning}." if content and len(lines) < len(groups) else ""
    if len(lines) > LINES:
        why += f" {LINES} of {len(lines)} groups, evenly chosen."
    return [lines[k] for k in thin(len(lines), to=LINES)], why


def short(group: Group) -> str:
    """mlp_fast, lr=0.001"""
    words = [show(v) if k.endswith(".name") else f"{k.split('.')[-1]}={show(v)}" for k, v in group.label.items()]
    return clean(", ".join(words)).replace("$", r"\$") or "all runs"


def comparable(groups: Sequence[Group]) -> bool:
    """Do all runs have equally many tasks and phases?"""
    return len({(len(run.results.tasks), run.results.phases) for group in groups for run in group.runs}) == 1


class Drawing(NamedTuple):
    """A picture before it is drawn."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Axes]


def pictures(drawings: Iterable[Drawing]) -> Iterator[Picture]:
    for name, title, caption, draw in drawings:
        yield picture(draw, name=name, title=title, caption=caption, measured=True)


def drawings(groups: Sequence[Group], lines: Sequence[Group], why: str, content: Frontier | None) -> Iterator[Drawing]:
    """The frontier of all groups, and of a group a line what it learns and forgets along the stream."""
    if content is not None:
        caption = "Learning against forgetting, a line for each method over its learning rates, intervals over seeds."
        yield Drawing("frontier", "The frontier", caption, partial(_frontier, content))
    if not comparable(groups):
        return
    first, unit = headline(groups), UNITS[headline(groups).split("/")[1]]
    curves = {
        "curve-seen": ("All tasks learned so far", f"{first}/avg_final"),
        "curve-forgetting": ("Forgetting so far", f"{first}/{forgetting(groups)}"),
        "curve-gain": ("Gain of fast over slow weights so far", f"fast_gain/{first.split('/')[1]}/avg_final"),
    }
    # Of a long stream every row is a metric of its own over many tasks: minutes.
    for name, (title, asked) in curves.items() if len(lines[0].runs[0].results.tasks) <= LONG else ():
        caption = f"{asked} after each phase, mean and 95 % t-interval over seeds.{why}"
        yield Drawing(name, title, caption, partial(_along, by_row(lines, asked), lines, names=(), ylabel=unit))
    for name, (title, asked) in DIAGNOSED.items():
        if any(known(group, asked) for group in lines):
            caption = f"{asked} after each phase, mean and 95 % t-interval over seeds.{why}"
            draw = partial(_along, by_row(lines, asked), lines, names=(), ylabel=asked.rpartition("/")[2])
            yield Drawing(name, title, caption, draw)
    sheet = by_task(lines, f"{first}/learned")
    names = [tick(words[0]) for words, _ in sheet.rows]
    caption = f"{first} on each task right after it was learned, mean and 95 % t-interval over seeds.{why}"
    yield Drawing(
        "tasks-learned", "Right after learning", caption, partial(_along, sheet, lines, names=names, ylabel=unit)
    )


def _frontier(content: Frontier) -> Axes:
    from ttt.compare.draw_frontier import frontier

    return frontier(content)


def _along(sheet: Sheet, groups: Sequence[Group], *, names: Sequence[str], ylabel: str) -> Axes:
    from ttt.compare.draw import lines

    xlabel = "" if names else "tasks learned"
    labels = [short(group) for group in groups]
    return lines(sheet, labels=labels, names=names, xlabel=xlabel, ylabel=ylabel)


def per_task(groups: Sequence[Group], why: str) -> Table | None:
    """What each task scores at the end, a column for each group."""
    if not comparable(groups):
        return None
    mode, quantity = headline(groups).split("/")
    sheet = by_task(groups, f"{mode}/{quantity}/final")
    picked = thin(len(sheet.rows), to=TASKS)
    rows = [[word(sheet.rows[j][0][0]), *map(interval, sheet.rows[j][1])] for j in picked]
    note = f"{len(picked)} of {len(sheet.rows)} tasks, evenly chosen." if len(picked) < len(sheet.rows) else ""
    head = {"task": ""} | {short(group): group.name for group in groups}
    caption = f"{QUANTITIES[quantity].capitalize()} on each task at the end, mode {mode}, {UNITS[quantity]}"
    return Table("per-task", caption, head, rows, note=(why + " " + note).strip())
