"""ttt-compare: run folders in, one table out; mean over seeds and 95 % t-interval."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from ttt.cli import per_task
from ttt.cli.cell import cell

from ttt.compare import MOMENTS, Group, find_runs, group_runs
from ttt.config import suggest

Baseline = Mapping[int, Group]

DEFAULT = tuple(
    f"{mode}/loss/{metric}"
    for mode in ("slow", "fast", "carried")
    for metric in ("avg_learning", "avg_final", "forgetting_max_seen")
)


def main() -> None:
    typed = arguments()
    try:
        groups, metrics, baseline = pick(typed)
    except ValueError as error:
        print(f"ttt-compare: {error}", file=sys.stderr)
        sys.exit(2)
    if typed.per_task:
        names, lines, title = per_task.header(groups), per_task.rows(groups, typed.per_task), typed.per_task
        if typed.plot:
            per_task.plot(groups, typed.per_task, typed.plot)
    else:
        names, lines = header(groups, metrics), rows(groups, metrics, baseline)
        title = "with a sign: paired difference to the baseline (* leaves out zero)" if baseline else ""
    scenarios = ", ".join(sorted({f"{run.results.scenario}-incremental" for group in groups for run in group.runs}))
    title = f"{scenarios}; mean over seeds ± half of the 95 % t-interval" + (f"; {title}" if title else "")
    if typed.markdown:
        print(markdown(names, lines))
    else:
        Console(highlight=False).print(table(names, lines, title=title))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ttt-compare", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, default=[Path("outputs")], help="run folders, or folders of them")
    parser.add_argument("--metrics", nargs="+", default=None, metavar="MODE/QUANTITY/METRIC")
    parser.add_argument(
        "--baseline",
        metavar="KEY=VALUE",
        help="show differences to the groups of that value, equal in all else, over equal seeds: adapter.name=none",
    )
    parser.add_argument(
        "--per-task",
        metavar="MODE/QUANTITY/MOMENT",
        help=f"a row for each task instead: fast/accuracy/final; moments: {', '.join(MOMENTS)}",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="with --per-task: the same as a picture (.svg, .png)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    return parser.parse_args()


def pick(typed: argparse.Namespace) -> tuple[Sequence[Group], Sequence[str], Baseline]:
    """What was asked for. Raises ValueError for what is not there."""
    runs = find_runs(typed.runs)
    if not runs:
        raise ValueError(f"{' '.join(map(str, typed.runs))}: holds no finished run (no results.json)")
    groups = group_runs(runs)
    known = sorted({name for run in runs for name in run.metrics})
    for metric in typed.metrics or ():
        if metric not in known:
            raise ValueError(f"--metrics {metric}: unknown; {suggest(metric, known)}")
    if typed.per_task:
        per_task.check(groups, typed.per_task)
    elif typed.plot:
        raise ValueError(f"--plot {typed.plot}: goes with --per-task")
    baseline = pick_baseline(groups, typed.baseline) if typed.baseline else {}
    return groups, typed.metrics or [m for m in DEFAULT if m in known], baseline


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


def table(names: Sequence[str], lines: Sequence[Sequence[str]], *, title: str) -> Table:
    made = Table(title=title, box=None, header_style="bold", padding=(0, 1))
    for name in names:
        made.add_column(name.replace("/", "\n"), justify="right")
    for line in lines:
        made.add_row(*line)
    return made


def markdown(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [names, ["---"] * len(names), *lines])


if __name__ == "__main__":
    main()
