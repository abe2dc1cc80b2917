"""ttt-compare: run folders in, one table out; mean over seeds and 95 % t-interval."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ttt.compare import Group, find_runs, group_runs
from ttt.config import suggest
from ttt.metrics.seeds import Interval

DEFAULT = tuple(
    f"{mode}/loss/{metric}"
    for mode in ("slow", "fast", "carried")
    for metric in ("avg_learning", "avg_final", "forgetting_max_seen")
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="ttt-compare", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, default=[Path("outputs")], help="run folders, or folders of them")
    parser.add_argument("--metrics", nargs="+", default=None, metavar="MODE/QUANTITY/METRIC")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    typed = parser.parse_args()
    try:
        runs = find_runs(typed.runs)
        if not runs:
            raise ValueError(f"{' '.join(map(str, typed.runs))}: holds no finished run (no results.json)")
        groups = group_runs(runs)
        known = sorted({name for run in runs for name in run.metrics})
        for metric in typed.metrics or ():
            if metric not in known:
                raise ValueError(f"--metrics {metric}: unknown; {suggest(metric, known)}")
    except ValueError as error:
        print(f"ttt-compare: {error}", file=sys.stderr)
        sys.exit(2)
    metrics = typed.metrics or [m for m in DEFAULT if m in known]
    if typed.markdown:
        print(markdown(groups, metrics))
    else:
        Console(highlight=False).print(table(groups, metrics))


def cell(interval: Interval) -> str:
    if interval.mean != interval.mean:
        return "-"
    return f"{interval.mean:.3f}" + (f" ±{interval.half:.3f}" if interval.n > 1 else "")


def rows(groups: Sequence[Group], metrics: Sequence[str]) -> list[list[str]]:
    """A row a group: what sets it apart, the number of seeds, a cell for each metric."""
    return [
        [*(str(v) for v in g.label.values()), str(len(g.runs)), *(cell(g.interval(m)) for m in metrics)] for g in groups
    ]


def header(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    return [*groups[0].label, "n", *metrics]


def table(groups: Sequence[Group], metrics: Sequence[str]) -> Table:
    made = Table(title="mean over seeds ± half of the 95 % t-interval", box=None, header_style="bold", padding=(0, 1))
    for name in header(groups, metrics):
        made.add_column(name.replace("/", "\n"), justify="right")
    for row in rows(groups, metrics):
        made.add_row(*row)
    return made


def markdown(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    names = header(groups, metrics)
    lines = [names, ["---"] * len(names), *rows(groups, metrics)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
