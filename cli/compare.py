"""ttt-compare: run folders in, one table out; mean over seeds and 95 % t-interval."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ttt.compare import Group, find_runs, group_runs
from ttt.config import suggest
from ttt.metrics.seeds import Interval

Baseline = Mapping[int, Group]

DEFAULT = tuple(
    f"{mode}/loss/{metric}"
    for mode in ("slow", "fast", "carried")
    for metric in ("avg_learning", "avg_final", "forgetting_max_seen")
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="ttt-compare", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, default=[Path("outputs")], help="run folders, or folders of them")
    parser.add_argument("--metrics", nargs="+", default=None, metavar="MODE/QUANTITY/METRIC")
    parser.add_argument(
        "--baseline",
        metavar="KEY=VALUE",
        help="show differences to the groups of that value, equal in all else, over equal seeds: adapter.name=none",
    )
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
        baseline = pick_baseline(groups, typed.baseline) if typed.baseline else {}
    except ValueError as error:
        print(f"ttt-compare: {error}", file=sys.stderr)
        sys.exit(2)
    metrics = typed.metrics or [m for m in DEFAULT if m in known]
    if typed.markdown:
        print(markdown(groups, metrics, baseline))
    else:
        Console(highlight=False).print(table(groups, metrics, baseline))


def pick_baseline(groups: Sequence[Group], typed: str) -> Baseline:
    """index of a group -> the group it is compared with. Raises ValueError where KEY or VALUE is unknown."""
    key, _, value = typed.partition("=")
    if key not in groups[0].label:
        raise ValueError(f"--baseline {typed}: these runs differ in other keys; {suggest(key, groups[0].label)}")
    bases = [group for group in groups if str(group.label[key]) == value]
    if not bases:
        raise ValueError(f"--baseline {typed}: no such runs; {suggest(value, {str(g.label[key]) for g in groups})}")
    found = {i: [b for b in bases if group.matches(b, but=key)] for i, group in enumerate(groups)}
    return {i: match[0] for i, match in found.items() if match and match[0] is not groups[i]}


def cell(interval: Interval, *, difference: bool) -> str:
    """mean and half of the interval; * marks a difference whose interval leaves out zero."""
    if interval.mean != interval.mean:
        return "-"
    text = f"{interval.mean:{'+' if difference else ''}.3f}"
    if interval.n < 2:
        return text
    return f"{text} ±{interval.half:.3f}" + ("*" if difference and interval.resolved else "")


def rows(groups: Sequence[Group], metrics: Sequence[str], baseline: Baseline) -> list[list[str]]:
    """A row a group: what sets it apart, the number of seeds, a cell for each metric."""
    made = []
    for i, group in enumerate(groups):
        other = baseline.get(i)
        if other is None:
            cells = [cell(group.interval(m), difference=False) for m in metrics]
        else:
            cells = [cell(group.paired(other, m), difference=True) for m in metrics]
        made.append([*(str(value) for value in group.label.values()), str(len(group.runs)), *cells])
    return made


def header(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    return [*groups[0].label, "n", *metrics]


def table(groups: Sequence[Group], metrics: Sequence[str], baseline: Baseline) -> Table:
    title = "mean over seeds ± half of the 95 % t-interval"
    if baseline:
        title += "; with a sign: paired difference to the baseline (* leaves out zero)"
    made = Table(title=title, box=None, header_style="bold", padding=(0, 1))
    for name in header(groups, metrics):
        made.add_column(name.replace("/", "\n"), justify="right")
    for row in rows(groups, metrics, baseline):
        made.add_row(*row)
    return made


def markdown(groups: Sequence[Group], metrics: Sequence[str], baseline: Baseline) -> str:
    names = header(groups, metrics)
    lines = [names, ["---"] * len(names), *rows(groups, metrics, baseline)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
