"""The page that compares runs. `comparison_content` is its table of contents, top to bottom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ttt.compare.baseline import check_baseline, choose_baseline
from ttt.compare.groups import Group, group_runs
from ttt.compare.runs import Run, RunSearch, read_run
from ttt.compare.select import where
from ttt.compare.streams import by_stream
from ttt.config.messages import show
from ttt.config.visible import visible
from ttt.report import contrast, page
from ttt.report.drawings import comparison_drawings, draw_all
from ttt.report.one import search_warning
from ttt.report.parts import PageCell, Table, number_cell, text_cell
from ttt.report.text import thin
from ttt.storage.files import write_bytes
from ttt.storage.read import read_config
from ttt.storage.run_folder import RunFolder

# At most this many rows in the tables of runs: the page has to stay small enough to open.
RUNS, UNFINISHED = 1000, 100


@dataclass(frozen=True)
class Wish:
    """What was typed: conditions on runs, the baseline (by default the plain method), and all of it
    as a command."""

    where: Sequence[str] = ()
    baseline: str = ""
    command: str = ""


def write_comparison(folders: RunSearch, *, to: Path, wish: Wish = Wish()) -> Path:
    """Write the page `to` a file, which holds its pictures too.

    Raises ValueError in one line if runs do not compare, or one of them cannot be read.
    """
    assert folders.done, "nothing to compare"
    content = comparison_content(folders, folder=to.parent, wish=wish)
    write_bytes(to, page.render("compare.html", content).encode())
    return to


def comparison_content(folders: RunSearch, *, folder: Path, wish: Wish) -> dict[str, Any]:
    """Return what compare.html shows; `folder` is where the page will be."""
    runs = where([read_run(run) for run in folders.done], wish.where)
    if wish.baseline:
        check_baseline(runs, wish.baseline)
    streams = [(stream.name, group_runs(stream.runs)) for stream in by_stream(runs)]
    baselines = choose_baselines([groups for _, groups in streams], wish.baseline)
    count = sum(len(groups) for _, groups in streams)
    groups_of = f"{count} {'group' if count == 1 else 'groups'}"
    several = f", on {len(streams)} streams" if len(streams) > 1 else ""
    return {
        "title": f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} in {groups_of}{several}",
        "command": visible(wish.command),
        "searches": sorted({text for _, groups in streams for text in search_warnings(groups)}),
        "streams": [
            stream_content(groups, baseline, name=name if several else "", number=number, folder=folder)
            for number, ((name, groups), baseline) in enumerate(zip(streams, baselines, strict=True), start=1)
        ],
        "left_out": unfinished_table(folders, folder=folder),
    }


def choose_baselines(streams: Sequence[Sequence[Group]], typed: str) -> list[str]:
    """Return KEY=VALUE of the baseline of each stream, "" for a stream that has none.

    Raises ValueError where a typed one is in no stream.
    """
    if not typed:
        return [contrast.baseline_name(groups) for groups in streams]
    refusals, baselines = [], []
    for groups in streams:
        try:
            choose_baseline(groups, typed)
            baselines.append(typed)
        except ValueError as error:
            refusals.append(error)
            baselines.append("")
    # A baseline may be missing in some streams, but not in all of them.
    if not any(baselines):
        raise refusals[0]
    return baselines


def stream_content(groups: Sequence[Group], baseline: str, *, name: str, number: int, folder: Path) -> dict[str, Any]:
    """Return what the page shows of one stream; `number` tells its parts from those of others."""
    metrics = contrast.metric_columns(groups)
    lines, why = contrast.chosen(groups)
    frontier = contrast.rate_frontier(groups)
    pairs = choose_baseline(groups, baseline) if baseline else {}
    mark = f"-{number}" if number > 1 else ""
    drawings = (
        drawing._replace(name=drawing.name + mark) for drawing in comparison_drawings(groups, lines, why, frontier)
    )
    tables = {
        "differ": differ(groups),
        "main": contrast.group_table(groups, metrics, baseline={}),
        "differences": contrast.group_table(groups, metrics, baseline=pairs) if pairs else None,
        "areas": contrast.areas(frontier) if frontier else None,
        "per_task": contrast.final_table(lines, why),
        # Four numbers for each run: more would not fit beside its label.
        "runs": run_table(groups, list(metrics)[:4], folder=folder),
    }
    return {
        "name": visible(name),
        "mark": mark,
        "sentence": comparison_sentence(groups, [run for group in groups for run in group.runs]),
        "modes": contrast.mode_meanings(metrics, groups),
        "lonely": any(len(group.runs) == 1 for group in groups),
        "baseline": baseline,
        "pictures": list(draw_all(drawings)),
        **{key: table and replace(table, name=table.name + mark) for key, table in tables.items()},
    }


def comparison_sentence(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    """Say in plain words what was run."""

    def all_of(key: str) -> str:
        return ", ".join(sorted({str(run.config.get(key, "")) for run in runs}))

    seeds = sorted({run.seed for run in runs})
    tasks = sorted({len(run.results.tasks) for run in runs})
    scenarios = ", ".join(sorted({run.results.scenario for run in runs}))
    text = (
        f"Streams {all_of('task.name')} of source {all_of('source.name')}, {scenarios}-incremental, "
        f"{' or '.join(map(str, tasks))} tasks; adapters {all_of('adapter.name')}, strategies "
        f"{all_of('strategy.name')}, optimizers {all_of('optimizer.name')}; {len(seeds)} "
        f"{'seed' if len(seeds) == 1 else 'seeds'} ({spelled(seeds)}). Only the seed differs within a group."
    )
    return visible(text)


def spelled(seeds: Sequence[int]) -> str:
    """Return "0 to 4" for seeds without a gap, else a list of them."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def differ(groups: Sequence[Group]) -> Table:
    """Return the config keys that set the groups apart, and their values."""
    rows = []
    for key in groups[0].label:
        # The label of a method that does not have this key is empty there.
        values = list(dict.fromkeys(show(group.label[key]) or "not there" for group in groups))
        rows.append([text_cell(key), text_cell(", ".join(values))])
    return Table("differ", "What differs between the groups", {"key": "", "values": ""}, rows, sortable=False)


def search_warnings(groups: Sequence[Group]) -> list[str]:
    """Return what to declare about how hyper-parameters were chosen."""
    # All runs of a group share their config but for the seed: the first speaks for them.
    return sorted({text for group in groups if (text := search_warning(read_config(group.runs[0].folder)))})


def run_table(groups: Sequence[Group], metrics: Sequence[str], *, folder: Path) -> Table:
    """List every run, with a link to its own page, or to its numbers if it has none."""
    every = [(group, run) for group in groups for run in group.runs]
    # The table is thinned, and all numbers above it are of all runs.
    picked = thin(len(every), to=RUNS)
    rows = []
    for group, run in (every[k] for k in picked):
        label = [text_cell(show(v)) for v in group.label.values()]
        numbers = [number_cell(run.metric(metric)) for metric in metrics]
        files = RunFolder(run.folder)
        link = relative(files.report if files.report.is_file() else files.results, folder)
        name = PageCell(visible(run.folder.name), link=link)
        rows.append([name, *label, PageCell(str(run.seed), value=str(run.seed)), *numbers])
    keys = list(groups[0].label)
    columns = {"run": "leads to its page, or to its results.json if it has none"}
    columns |= dict(zip(contrast.keys_called(keys), keys, strict=True)) | {"seed": ""}
    columns |= {contrast.called(metric): metric for metric in metrics}
    note = f"{len(picked)} of {len(every)} runs, evenly chosen." if len(picked) < len(every) else ""
    return Table("runs", "Every run", columns, rows, note=note)


def relative(file: Path, folder: Path) -> str:
    """Return a link from `folder` to `file` that still works when both are moved together."""
    return "./" + quote(Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix())


def unfinished_table(folders: RunSearch, *, folder: Path) -> Table | None:
    """List the runs that are left out because they are not finished, if there are any."""
    if not folders.unfinished:
        return None
    rows = []
    for run, status in list(folders.unfinished.items())[:UNFINISHED]:
        path = Path(os.path.relpath(run.resolve(), folder.resolve())).as_posix()
        rows.append([text_cell(path), text_cell(status), text_cell(_reason(run))])
    total = len(folders.unfinished)
    note = f"{UNFINISHED} of {total} runs." if total > UNFINISHED else ""
    return Table("left-out", "Left out: not finished", {"run": "", "status": "", "reason": ""}, rows, note=note)


def _reason(run: Path) -> str:
    return str(RunFolder(run).status().get("reason", ""))
