"""The pictures of a comparison: the frontier, and each method along the stream."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from ttt.compare import Group
from ttt.figures.bands import Band, bands
from ttt.figures.frontier import frontier
from ttt.frontier import FORGETTING, LEARNING, RATE, Frontier
from ttt.sheet import Sheet, by_row, by_task

# With more lines nobody tells them apart.
LINES = 8
# Drawn where they can be: title, and what of the stream it shows.
TASKS = {"each task right after learning it": "fast/loss/learned", "each task after the whole stream": "fast/loss/final"}
ROWS = {
    "mean over the tasks learned so far": "fast/loss/avg_final",
    "forgetting so far": "fast/loss/forgetting_at_learn",
    "what fast weights gain over slow ones, so far": "fast_gain/loss/avg_final",
}


def lines(sheet: Sheet, *, xlabel: str, ylabel: str) -> Axes:
    """A line for each column of a sheet along its rows, its interval as a band."""
    columns = zip(*(cells for _, cells in sheet.rows), strict=True)
    x = range(len(sheet.rows))
    made = [
        Band(name, x, [cell.interval.mean for cell in cells], [cell.interval.half for cell in cells])
        for name, cells in zip(sheet.columns, columns, strict=True)
    ]
    return bands(made, xlabel=xlabel, ylabel=ylabel, names=[words[0] for words, _ in sheet.rows])


def pictures(groups: Sequence[Group]) -> dict[str, Axes]:
    """title -> picture. Curves show each method at the rate that learns best, and at most LINES of them.

    The rate is picked by what was learned right after each task: a choice on current-task data only.
    """
    drawn: dict[str, Axes] = {}
    shown = list(groups)
    if RATE in groups[0].label:
        content = Frontier.of(groups, key=RATE, learning=LEARNING, forgetting=FORGETTING)
        drawn["learning against forgetting"] = frontier(content)
        shown = [line.best(LEARNING) for line in content.lines]
    shown = shown[:LINES]
    if len({len(run.results.tasks) for group in shown for run in group.runs}) > 1:
        # Streams of different lengths have no tasks in common.
        return drawn
    for title, asked in TASKS.items():
        drawn[title] = lines(by_task(shown, asked), xlabel="", ylabel="loss in bits (mode fast)")
    for title, asked in ROWS.items():
        drawn[title] = lines(by_row(shown, asked), xlabel="after phase", ylabel="bits")
    return drawn
