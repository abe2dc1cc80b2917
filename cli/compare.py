"""ttt-compare: many runs in, one table out; the seed is the unit: mean, sd and 95 % t-interval over seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ttt.cli.tables import views
from ttt.cli.tables.formats import FORMATS, write
from ttt.compare.frontier import RATE, axes
from ttt.compare.groups import MOMENTS, Group, group_runs, headline, paired_with, where
from ttt.compare.runs import Run, RunSearch, find_runs, read_run
from ttt.compare.table import Sheet, by_metric
from ttt.config.messages import suggest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Columns where nobody asks for others. A policy is used in mode carried; fast is the base under its prompts.
METRICS = ("avg_learning", "avg_final", "forgetting_max_seen")
MODES = {"loss": ("slow", "fast", "carried"), "success": ("slow", "carried", "archived")}


@dataclass(frozen=True)
class View:
    """What was asked for: a table, and the picture that shows the same."""

    sheet: Sheet
    draw: Callable[[], Axes] | None


def main() -> None:
    typed = arguments()
    try:
        found = find_runs(typed.runs)
        whole = beside(typed, found)
        groups = [] if whole else read(typed, found)
        view = View(whole, None) if whole else look(typed, groups)
        if typed.plot and view.draw is None:
            raise ValueError(f"--plot {typed.plot}: goes with --frontier, --per-task or --curve")
        if typed.plot:
            from ttt.figures.style import save

            assert view.draw is not None
            save(view.draw(), typed.plot)
    except ValueError as error:
        print(f"ttt-compare: {error}", file=sys.stderr)
        sys.exit(2)
    tell_unfinished(found)
    write(view.sheet, form=typed.format)
    if typed.wandb:
        from ttt.report.push import push

        place = next((Path(run) for run in typed.runs if Path(run).is_dir()), Path.cwd())
        print(push(groups, view.sheet, project=typed.wandb, folder=place), file=sys.stderr)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ttt-compare", description=__doc__)
    add = parser.add_argument
    add("runs", nargs="*", default=["outputs"], help="run folders, folders of them, or patterns: 'outputs/*/none-*'")
    add("--metrics", nargs="+", metavar="MODE/QUANTITY/METRIC", help="columns; a * stands for anything: 'fast/loss/*'")
    add(
        "--where",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="only runs with such values: optimizer.lr=0.001,0.01",
    )
    add("--sort", metavar="MODE/QUANTITY/METRIC", help="best group first")
    add(
        "--baseline",
        metavar="KEY=VALUE",
        help="show differences to the groups of that value, equal in all else, over equal seeds: adapter.name=none",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--frontier",
        nargs="?",
        const=RATE,
        metavar="KEY",
        help=f"learning against forgetting instead: a line for each method over KEY ({RATE}), and the area below it",
    )
    kind.add_argument(
        "--per-task",
        metavar="MODE/QUANTITY/MOMENT",
        help=f"a row for each task instead: fast/accuracy/final; moments: {', '.join(MOMENTS)}",
    )
    kind.add_argument(
        "--curve",
        metavar="MODE/QUANTITY/METRIC",
        help="a row after each phase instead, over the tasks learned by then: fast/loss/avg_final",
    )
    kind.add_argument("--published", action="store_true", help="our values beside those published, where known")
    kind.add_argument(
        "--claims", action="store_true", help="our figures beside what is claimed of Fast-Slow Training, with verdicts"
    )
    add("--axes", nargs=2, metavar="METRIC", help="with --frontier: its two metrics, learning and forgetting")
    add("--plot", type=Path, metavar="FILE", help="the same as a picture (.svg, .png, .pdf)")
    add("--wandb", nargs="?", const="ttt", metavar="PROJECT", help="also push the comparison to W&B (project: ttt)")
    add("--format", choices=FORMATS, default="table")
    return parser.parse_args()


def read(typed: argparse.Namespace, found: RunSearch) -> list[Group]:
    """The groups of all finished runs that were asked for. Raises ValueError in the user's words."""
    return group_runs(_runs(typed, found))


def beside(typed: argparse.Namespace, found: RunSearch) -> Sheet | None:
    """Whatever streams the runs saw: each is compared with what is published, or claimed, about its own."""
    shown = "--published" if typed.published else "--claims"
    for option in ("metrics", "sort", "baseline", "axes", "wandb"):
        if (typed.published or typed.claims) and getattr(typed, option):
            raise ValueError(f"--{option}: does not go with {shown}, which says itself what is compared")
    if typed.published:
        from ttt.compare.published import by_published

        return by_published(_runs(typed, found))
    if typed.claims:
        from ttt.claims.fst import claims

        return claims(_runs(typed, found))
    return None


def _runs(typed: argparse.Namespace, found: RunSearch) -> list[Run]:
    if not found.done:
        raise ValueError(f"{' '.join(typed.runs)}: holds no finished run (no results.json){_unfinished(found)}")
    return where([read_run(folder) for folder in found.done], typed.where)


def look(typed: argparse.Namespace, groups: Sequence[Group]) -> View:
    if typed.frontier:
        return View(*views.frontier(groups, key=typed.frontier, axes=typed.axes or axes(groups)))
    if typed.per_task:
        return View(*views.per_task(groups, typed.per_task))
    if typed.curve:
        return View(*views.curve(groups, typed.curve))
    metrics = views.metrics(groups, typed.metrics) if typed.metrics else views.present(groups, default(groups))
    if typed.sort:
        views.known(groups, typed.sort, option="--sort")
    baseline = pick_baseline(groups, typed.baseline) if typed.baseline else {}
    return View(by_metric(groups, metrics, baseline=baseline, sort=typed.sort), None)


def default(groups: Sequence[Group]) -> list[str]:
    quantity = headline(groups).split("/")[1]
    return [f"{mode}/{quantity}/{metric}" for mode in MODES[quantity] for metric in METRICS]


def pick_baseline(groups: Sequence[Group], typed: str) -> dict[int, Group]:
    """index of a group -> the group it is compared with. Raises ValueError where KEY or VALUE is unknown."""
    key, _, value = typed.partition("=")
    if key not in groups[0].label:
        raise ValueError(f"--baseline {typed}: these runs differ in other keys; {suggest(key, groups[0].label)}")
    values = {str(group.label[key]) for group in groups}
    if value not in values:
        raise ValueError(f"--baseline {typed}: no such runs; {suggest(value, values)}")
    return paired_with(groups, key=key, value=value)


def tell_unfinished(found: RunSearch) -> None:
    if found.unfinished:
        print(f"ttt-compare: left out{_unfinished(found)}", file=sys.stderr)


def _unfinished(found: RunSearch) -> str:
    if not found.unfinished:
        return ""
    states = list(found.unfinished.values())
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f": {len(states)} unfinished runs ({counts}), the first in {next(iter(found.unfinished))}"


if __name__ == "__main__":
    main()
