"""Pictures of a comparison: the frontier, and lines of groups along the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes

from ttt.compare.draw import draw_frontier, draw_lines
from ttt.compare.frontier import Frontier
from ttt.compare.groups import Group, headline
from ttt.compare.sheet import Sheet
from ttt.compare.table import by_row, by_task
from ttt.report.contrast import comparable, forgetting_variant, is_measured, short
from ttt.report.parts import Picture, picture
from ttt.report.text import tick
from ttt.results import catalogue
from ttt.results.scores import quantity_of

# Streams with more tasks get no curves: each row is a metric of its own over many tasks, and the
# page would take minutes.
LONG = 60
# Diagnostics that are drawn along the stream if they were measured.
DIAGNOSED = {
    "curve-dormant": "slow/plasticity/dormant_tau0.1",
    "curve-rank": "slow/plasticity/erank",
    "curve-weights": "slow/plasticity/weight_l2",
    "curve-gradient": "slow/plasticity/grad_l2",
    "curve-drift": "fast/drift/kl_base",
}


class Drawing(NamedTuple):
    """A picture before it is drawn: the page embeds SVG, W&B takes pixels."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Axes]


def draw_all(drawings: Iterable[Drawing]) -> Iterator[Picture]:
    for name, title, caption, draw in drawings:
        yield picture(draw, name=name, title=title, caption=caption, measured=True)


def comparison_drawings(
    groups: Sequence[Group], lines: Sequence[Group], why: str, frontier: Frontier | None
) -> Iterator[Drawing]:
    """Yield the frontier of all groups, and what the groups in `lines` learn and forget.

    `why` is added to the captions: it says how `lines` were chosen.
    """
    if frontier is not None:
        caption = "Learning against forgetting, a line for each method over its learning rates, intervals over seeds."
        yield Drawing("frontier", "The frontier", caption, partial(draw_frontier, frontier))
    if not comparable(groups):
        return
    if len(lines[0].runs[0].results.tasks) <= LONG:
        yield from _score_curves(groups, lines, why)
    for name, metric in DIAGNOSED.items():
        if any(is_measured(group, metric) for group in lines):
            yield _curve(name, catalogue.title(metric).capitalize(), metric, lines, why)
    yield _right_after_learning(groups, lines, why)


def _score_curves(groups: Sequence[Group], lines: Sequence[Group], why: str) -> Iterator[Drawing]:
    first = headline(groups)
    quantity = first.split("/")[1]
    curves = {
        "curve-seen": ("All tasks learned so far", f"{first}/avg_final"),
        "curve-forgetting": ("Forgetting so far", f"{first}/{forgetting_variant(groups)}"),
        "curve-gain": ("Gain of fast over slow weights so far", f"fast_gain/{quantity}/avg_final"),
    }
    for name, (title, metric) in curves.items():
        yield _curve(name, title, metric, lines, why)


def _curve(name: str, title: str, metric: str, lines: Sequence[Group], why: str) -> Drawing:
    caption = f"{metric} after each phase, mean and 95 % t-interval over seeds.{why}"
    draw = partial(_along, by_row(lines, metric), lines, names=(), ylabel=catalogue.unit_of(metric))
    return Drawing(name, title, caption, draw)


def _right_after_learning(groups: Sequence[Group], lines: Sequence[Group], why: str) -> Drawing:
    first = headline(groups)
    sheet = by_task(lines, f"{first}/learned")
    names = [tick(words[0]) for words, _ in sheet.rows]
    caption = f"{first} on each task right after it was learned, mean and 95 % t-interval over seeds.{why}"
    draw = partial(_along, sheet, lines, names=names, ylabel=quantity_of(first.split("/")[1]).unit)
    return Drawing("tasks-learned", "Right after learning", caption, draw)


def _along(sheet: Sheet, groups: Sequence[Group], *, names: Sequence[str], ylabel: str) -> Axes:
    xlabel = "" if names else "tasks learned"
    labels = [short(group) for group in groups]
    return draw_lines(sheet, labels=labels, names=names, xlabel=xlabel, ylabel=ylabel)
