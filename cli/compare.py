"""ttt-compare: many runs in, one table out for each stream; mean, sd and 95 % t-interval."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ttt.cli.console import say_error
from ttt.cli.outlet import outlast_readers
from ttt.cli.process import in_own_process
from ttt.cli.tables import views
from ttt.cli.tables.options import compare_options
from ttt.cli.tables.pictures import look_of
from ttt.cli.tables.statistics import grouped, headed, streams, without_statistics
from ttt.cli.tables.views import TableView
from ttt.cli.tables.written import Comparison, form_of, write, written_files
from ttt.compare.baseline import check_baseline, check_key, choose_baseline
from ttt.compare.correction import corrected_by_holm
from ttt.compare.frontier import default_axes
from ttt.compare.groups import Group, headline
from ttt.compare.names import read_names
from ttt.compare.notes import notes, seed_notes
from ttt.compare.runs import Run, RunSearch, find_runs, read_run, uncollected
from ttt.compare.select import where
from ttt.compare.sheet import Sheet
from ttt.compare.strata import check_metrics
from ttt.compare.table import by_metric
from ttt.compare.tuned import tuning_lines
from ttt.config.messages import few
from ttt.results.by_task import is_mean_over_tasks
from ttt.results.scores import COMPARED, Mode
from ttt.run.exit_codes import ExitCode

# The columns unless others are typed: the levels between which everything happens, the changes, and
# what was forgotten of what was gained, which a learner that learns little cannot make small.
BEST_SEEN, AT_LEARN = "forgetting_max_seen", "forgetting_at_learn"
METRICS = ("avg_before", "gained", BEST_SEEN, "avg_final", "forgetting_per_gained")


@in_own_process
def main() -> None:
    outlast_readers()
    try:
        typed = compare_options()
        form = form_of(typed)
        look = look_of(typed)
        runs = find_runs(typed.runs)
        with uncollected():
            comparisons = compare(typed, runs)
        # Before anything is printed: a refusal is one line.
        if typed.plot:
            from ttt.cli.tables.draw import plot

            plot(only_stream(comparisons, f"--plot {typed.plot}"), typed.plot, look)
        if typed.wandb:
            only_stream(comparisons, "--wandb")
        write(comparisons, typed, form=form)
    except ValueError as error:
        say_error(f"ttt-compare: {error}")
        sys.exit(ExitCode.USAGE)
    _say(typed, runs, comparisons)


def _say(typed: argparse.Namespace, runs: RunSearch, comparisons: Sequence[Comparison]) -> None:
    """Say what is not in the table: on stderr, since programs read stdout."""
    if typed.to or typed.plot:
        say_error(f"wrote {few(map(str, written_files(typed)))}")
    if runs.unfinished:
        say_error(f"ttt-compare: left out{_unfinished(runs)}")
    for line in tuning_lines([run for each in comparisons for group in each.groups for run in group.runs]):
        say_error(f"ttt-compare: {line}")
    if typed.wandb:
        # Imported here, like all that draws or uploads: a table alone appears at once.
        from ttt.report.push import push

        folder = next((Path(run) for run in typed.runs if Path(run).is_dir()), Path.cwd())
        (shown,) = comparisons
        print(push(shown.groups, shown.view.sheet, project=typed.wandb, folder=folder), file=sys.stderr)


def compare(typed: argparse.Namespace, search: RunSearch) -> list[Comparison]:
    """Compare the finished runs in the way that was typed: a comparison for each stream.

    A stream that cannot be compared in this way is left out, unless none can. Raises ValueError in
    the user's words.
    """
    if typed.published or typed.claims:
        return [Comparison(TableView(beside_literature(typed, search)), [])]
    runs, comparisons, refusals = chosen_runs(typed, search), [], []
    check_keys(typed, runs)
    for stream in streams(typed, runs):
        try:
            groups = grouped(typed, stream.runs)
            view = choose_view(typed, groups)
            sheet = corrected_by_holm(view.sheet) if typed.correct == "holm" else view.sheet
        except ValueError as error:
            refusals.append((stream.name, error))
            continue
        sheet = replace(sheet, notes=[*notes(sheet, correct=typed.correct), *seed_notes(groups)])
        comparisons.append(Comparison(replace(view, sheet=sheet), groups, stream.name, stream.where))
    # Several streams may each have a reason: the first one is enough to go on.
    if not comparisons:
        raise refusals[0][1]
    for name, refusal in refusals:
        say_error(f"ttt-compare: left out {name}: {refusal}")
    groups = [group for comparison in comparisons for group in comparison.groups]
    # Names are read once for all streams: one may be about a single stream.
    names = read_names(typed.label, groups, [c for comparison in comparisons for c in comparison.view.sheet.columns])
    return [comparison._replace(names=names) for comparison in comparisons]


def check_keys(typed: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Raise ValueError for a key or a value that no run has, of whatever stream."""
    if typed.baseline and typed.baseline.partition("=")[0] != typed.by:
        check_baseline(runs, typed.baseline)
    if typed.frontier and typed.frontier != typed.by:
        check_key(runs, typed.frontier, option=f"--frontier {typed.frontier}")


def only_stream(comparisons: Sequence[Comparison], typed: str) -> Comparison:
    """The one comparison. Raises ValueError where there are several, with how to pick one."""
    if len(comparisons) > 1:
        pick = next((f"to pick one: {each.where}" for each in comparisons if each.where), "type the folders of one")
        raise ValueError(f"{typed}: shows one stream, and these runs saw {len(comparisons)}; {pick}")
    return comparisons[0]


def beside_literature(typed: argparse.Namespace, search: RunSearch) -> Sheet:
    """Compare runs with published values, or with claims."""
    # No groups here: each value is about a stream of its own, so that streams may differ.
    shown = "--published" if typed.published else "--claims"
    for option in ("metrics", "sort", "baseline", "axes", "label", "wandb"):
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
        raise ValueError(f"{few(typed.runs)}: holds no finished run (no results.json){_unfinished(search)}")
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
    sheet = by_metric(groups, metrics, baseline=baseline, sort=typed.sort)
    return TableView(headed(sheet, typed), metrics=metrics)


def default_metrics(groups: Sequence[Group]) -> list[str]:
    """METRICS of the headline's quantity, in the modes that say something about it.

    Where it was measured, also what the stream cost of what the model knew before.
    """
    quantity = headline(groups).split("/")[1]
    used: Mode = "carried" if quantity == "success" else "fast"
    names = [f"{mode}/{quantity}/{metric}" for mode in COMPARED[used] for metric in METRICS]
    # With few full rows (eval.every) the best value since learning is not known, the first one is.
    names = [name if _is_known(groups, name) else name.replace(BEST_SEEN, AT_LEARN) for name in names]
    return [*views.measured_metrics(groups, names), *views.forgotten_metrics(groups, used)]


def _is_known(groups: Sequence[Group], metric: str) -> bool:
    """Does any run have a number for it?"""
    # Only NaN differs from itself.
    return any(value == value for group in groups for value in group.values(metric))


def _unfinished(search: RunSearch) -> str:
    if not search.unfinished:
        return ""
    states = list(search.unfinished.values())
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f": {len(states)} unfinished runs ({counts}), the first in {next(iter(search.unfinished))}"


if __name__ == "__main__":
    main()
