"""ttt-compare: many runs in, one table out; mean, sd and 95 % t-interval over seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ttt.cli.tables import views
from ttt.cli.tables.formats import FORMATS, print_sheet
from ttt.cli.tables.statistics import add_statistics, grouped, headed, without_statistics
from ttt.cli.tables.views import TableView
from ttt.compare.frontier import RATE, default_axes
from ttt.compare.groups import MOMENTS, Group, headline, paired_with
from ttt.compare.runs import Run, RunSearch, find_runs, read_run
from ttt.compare.select import where
from ttt.compare.strata import check_metrics
from ttt.compare.table import Sheet, by_metric
from ttt.compare.tuned import tuning_lines
from ttt.config.messages import suggest
from ttt.results.by_task import is_mean_over_tasks
from ttt.results.scores import COMPARED, Mode
from ttt.run.exit_codes import ExitCode

# The columns unless others are typed: the levels between which everything happens, the changes, and
# what was forgotten of what was gained, which a learner that learns little cannot make small.
METRICS = ("avg_before", "gained", "forgetting_max_seen", "avg_final", "forgetting_per_gained")


class Comparison(NamedTuple):
    """What is shown, and the groups behind it: none beside published values or claims."""

    view: TableView
    groups: Sequence[Group]


def main() -> None:
    typed = compare_options()
    try:
        runs = find_runs(typed.runs)
        comparison = compare(typed, runs)
        # Before anything is printed: a refusal is one line.
        if typed.plot:
            plot(comparison.view, typed.plot)
    except ValueError as error:
        print(f"ttt-compare: {error}", file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    if runs.unfinished:
        print(f"ttt-compare: left out{_unfinished(runs)}", file=sys.stderr)
    for line in tuning_lines([run for group in comparison.groups for run in group.runs]):
        print(f"ttt-compare: {line}", file=sys.stderr)
    print_sheet(comparison.view.sheet, form=typed.format)
    if typed.wandb:
        # Imported here, like all that draws or uploads: a table alone appears at once.
        from ttt.report.push import push

        folder = next((Path(run) for run in typed.runs if Path(run).is_dir()), Path.cwd())
        print(push(comparison.groups, comparison.view.sheet, project=typed.wandb, folder=folder), file=sys.stderr)


def compare_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was typed, or `words` in its place."""
    parser = argparse.ArgumentParser(prog="ttt-compare", description=__doc__)
    add = parser.add_argument
    add("runs", nargs="*", default=["outputs"], help="run folders, folders of them, or patterns: 'outputs/*/none-*'")
    add("--metrics", nargs="+", metavar="MODE/QUANTITY/METRIC", help="columns; a * stands for anything: 'fast/loss/*'")
    add("--where", nargs="+", default=[], metavar="KEY=VALUE",
        help="only runs with such values: optimizer.lr=0.001,0.01")  # fmt: skip
    add("--sort", metavar="MODE/QUANTITY/METRIC", help="best group first")
    add("--baseline", metavar="KEY=VALUE",
        help="show differences to the groups of that value, equal in all else, over equal seeds: "
        "adapter.name=none")  # fmt: skip
    add_statistics(parser)
    _add_kinds(parser)
    add("--axes", nargs=2, metavar="METRIC", help="with --frontier: its two metrics, learning and forgetting")
    add("--plot", type=Path, metavar="FILE", help="the same as a picture (.svg, .png, .pdf)")
    add("--wandb", nargs="?", const="ttt", metavar="PROJECT", help="also push the comparison to W&B (project: ttt)")
    add("--format", choices=FORMATS, default="table")
    return parser.parse_args(words)


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    """Add the options that replace the table of groups: at most one of them can be typed."""
    add = parser.add_mutually_exclusive_group().add_argument
    add("--frontier", nargs="?", const=RATE, metavar="KEY",
        help=f"learning against forgetting instead: a line for each method over KEY ({RATE}), "
        "and the area below it")  # fmt: skip
    add("--per-task", metavar="MODE/QUANTITY/MOMENT",
        help=f"a row for each task instead: fast/accuracy/final; moments: {', '.join(MOMENTS)}")  # fmt: skip
    add("--curve", metavar="MODE/QUANTITY/METRIC",
        help="a row after each phase instead, over the tasks learned by then: fast/loss/avg_final")  # fmt: skip
    add("--published", action="store_true", help="our values beside published ones, where these are known")
    add("--claims", action="store_true",
        help="our figures beside what is claimed of Fast-Slow Training, with verdicts")  # fmt: skip


def compare(typed: argparse.Namespace, search: RunSearch) -> Comparison:
    """Compare the finished runs in the way that was typed.

    Raises ValueError in the user's words.
    """
    if typed.published or typed.claims:
        return Comparison(TableView(beside_literature(typed, search)), [])
    groups = grouped(typed, chosen_runs(typed, search))
    return Comparison(choose_view(typed, groups), groups)


def beside_literature(typed: argparse.Namespace, search: RunSearch) -> Sheet:
    """Compare runs with published values, or with claims."""
    # No groups here: each value is about a stream of its own, so that streams may differ.
    shown = "--published" if typed.published else "--claims"
    for option in ("metrics", "sort", "baseline", "axes", "wandb"):
        if getattr(typed, option):
            raise ValueError(f"--{option}: does not go with {shown}, which says itself what is compared")
    without_statistics(typed, shown=shown)
    # What only some calls need is imported there: a table of a thousand runs appears in seconds.
    if typed.published:
        from ttt.compare.published import by_published

        return by_published(chosen_runs(typed, search))
    from ttt.claims.fst import claims

    return claims(chosen_runs(typed, search))


def chosen_runs(typed: argparse.Namespace, search: RunSearch) -> list[Run]:
    """The finished runs that obey --where. Raises ValueError where there is none."""
    if not search.done:
        raise ValueError(f"{' '.join(typed.runs)}: holds no finished run (no results.json){_unfinished(search)}")
    return where([read_run(folder) for folder in search.done], typed.where)


def choose_view(typed: argparse.Namespace, groups: Sequence[Group]) -> TableView:
    """The view that was typed, by default a row for each group."""
    if typed.per_task:
        without_statistics(typed, shown="--per-task")
        return views.task_view(groups, typed.per_task)
    if typed.curve:
        without_statistics(typed, shown="--curve")
        return views.curve_view(groups, typed.curve)
    if typed.frontier:
        axes = typed.axes or default_axes(groups)
        check_metrics(axes, by=typed.by, over=typed.over_tasks)
        return views.frontier_view(groups, key=typed.frontier, axes=axes)
    metrics = views.matching_metrics(groups, typed.metrics) if typed.metrics else default_metrics(groups)
    if not typed.metrics and (typed.by or typed.over_tasks != "mean"):
        metrics = [metric for metric in metrics if is_mean_over_tasks(metric)]
    if typed.sort:
        views.check_metric(groups, typed.sort, option="--sort")
    check_metrics([*metrics, *([typed.sort] if typed.sort else [])], by=typed.by, over=typed.over_tasks)
    baseline = choose_baseline(groups, typed.baseline) if typed.baseline else {}
    return TableView(headed(by_metric(groups, metrics, baseline=baseline, sort=typed.sort), typed))


def default_metrics(groups: Sequence[Group]) -> list[str]:
    """METRICS of the headline's quantity, in the modes that say something about it.

    Where it was measured, also what the stream cost of what the model knew before.
    """
    quantity = headline(groups).split("/")[1]
    used: Mode = "carried" if quantity == "success" else "fast"
    names = [f"{mode}/{quantity}/{metric}" for mode in COMPARED[used] for metric in METRICS]
    return [*views.measured_metrics(groups, names), *views.forgotten_metrics(groups, used)]


def choose_baseline(groups: Sequence[Group], typed: str) -> Mapping[int, Group]:
    """Index of a group -> the group that it is compared with.

    Raises ValueError where KEY or VALUE is unknown.
    """
    key, _, value = typed.partition("=")
    if key not in groups[0].label:
        raise ValueError(f"--baseline {typed}: these runs differ in other keys; {suggest(key, groups[0].label)}")
    values = {str(group.label[key]) for group in groups}
    if value not in values:
        raise ValueError(f"--baseline {typed}: no such runs; {suggest(value, values)}")
    return paired_with(groups, key=key, value=value)


def plot(view: TableView, file: Path) -> None:
    """Draw the view into a file.

    Raises ValueError if the view has no picture, and for an unknown suffix.
    """
    from ttt.figures.style import save_figure

    if view.draw is None:
        raise ValueError(f"--plot {file}: goes with --frontier, --per-task or --curve")
    save_figure(view.draw(), file)


def _unfinished(search: RunSearch) -> str:
    if not search.unfinished:
        return ""
    states = list(search.unfinished.values())
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f": {len(states)} unfinished runs ({counts}), the first in {next(iter(search.unfinished))}"


if __name__ == "__main__":
    main()
